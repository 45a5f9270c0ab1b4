package registrar

import "testing"

// TestRegistered asks whose flow is registered, by name, by number, and after its end.
func TestRegistered(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t, "alice", "bob")
		p, q := desk("alice", "Yealink SIP-T46S 1", "198.51.100.7:5060"), desk("bob", "Yealink SIP-T46S 1", "198.51.100.9:5060")
		o.expect(200, p, "")
		o.expect(200, q, "")
		for _, c := range []struct {
			login string
			at    *phone
			want  bool
		}{{"alice", p, true}, {"101", p, true}, {"alice", q, false}, {"bob", q, true}, {"nobody", p, false}} {
			if got := o.Registered(c.login, c.at.flow); got != c.want {
				t.Errorf("%s at %s: %v", c.login, c.at.flow, got)
			}
		}
		o.expect(200, p, "0")
		if o.Registered("alice", p.flow) {
			t.Error("alice's phone has unregistered")
		}
	})
}
