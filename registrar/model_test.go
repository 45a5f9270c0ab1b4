package registrar

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"baton/sip"
)

// room is a model as simple as can be: which app (a device with an instance) is here over which flow.
type room struct {
	here   map[string]sip.Flow // by instance
	known  map[string]bool
	next   uint64
	phones map[string]*phone
}

// TestModel does random things and compares with the model; after each the rules that always hold are checked.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			o := newOffice(t, "alice")
			m := &room{here: map[string]sip.Flow{}, known: map[string]bool{}, phones: map[string]*phone{}}
			for range rapid.IntRange(1, 40).Draw(rt, "steps") {
				m.step(rt, o)
				synctest.Wait()
				m.check(rt, o)
			}
			o.stop()
		})
	})
}

func (m *room) step(rt *rapid.T, o *office) {
	instance := fmt.Sprint("urn:uuid:", rapid.IntRange(1, 12).Draw(rt, "app"))
	key := instance
	switch rapid.SampledFrom([]string{
		"register", "register", "register", "register", "desk", "desk", "end", "close", "close", "clear", "forget", "wait",
		"unreachable", "restart", "fail", "rename", "two at once",
	}).Draw(rt, "step") {
	case "register":
		m.register(rt, o, instance)
	case "two at once":
		a, b := o.send(m.phone(instance), ""), o.send(m.phone(instance), "")
		synctest.Wait()
		if a.code != 200 || b.code != 200 {
			rt.Fatalf("%+v, %+v", a, b)
		}
		m.bound(instance)
	case "desk":
		i := rapid.IntRange(1, 6).Draw(rt, "desk")
		o.expect(200, desk("alice", fmt.Sprintf("Yealink SIP-T4%dS 1", i%3), fmt.Sprintf("198.51.100.%d:5060", i)), rapid.SampledFrom([]string{"0", "60", "3600"}).Draw(rt, "expires"))
	case "end":
		if p := m.phones[instance]; p != nil {
			o.expect(200, p, "0")
			delete(m.here, instance)
		}
	case "close":
		if f, ok := m.here[instance]; ok {
			o.agent.set(func() { o.agent.dead[f] = true })
			o.FlowClosed(f)
			delete(m.here, instance)
		}
	case "clear":
		o.expect(200, desk("alice", "x", "198.51.100.99:5060"), "0", "*")
		clear(m.here)
	case "forget":
		err := o.Forget("alice", key)
		if (err == nil) != m.known[instance] {
			rt.Fatalf("forget %s: %v, known %v", key, err, m.known[instance])
		}
		delete(m.here, instance)
		delete(m.known, instance)
	case "wait":
		time.Sleep(time.Duration(rapid.IntRange(1, 40).Draw(rt, "seconds")) * time.Second)
	case "unreachable":
		o.Unreachable("alice", key, "did not answer") // it does, when it is asked
		synctest.Wait()
		time.Sleep(45 * time.Second)
	case "restart":
		o.restart()
	case "rename":
		_ = o.Rename("alice", key, rapid.SampledFrom([]string{"hall", "desk", "yealink-t41s"}).Draw(rt, "name"))
	case "fail":
		o.store.set(func() { o.store.fail = fmt.Errorf("disk full") })
		p := *m.phone(instance)
		o.expect(503, &p, "")
		o.store.set(func() { o.store.fail = nil })
	}
}

// phone is the app, over a new connection.
func (m *room) phone(instance string) *phone {
	m.next++
	p := app("alice", "LinphoneAndroid/5", instance, tcp(fmt.Sprint("203.0.113.1:", 1000+m.next), m.next))
	p.callID = fmt.Sprint("c-", m.next)
	m.phones[instance] = p
	return p
}

func (m *room) register(rt *rapid.T, o *office, instance string) {
	p := m.phones[instance]
	if p == nil || !o.agent.Alive(p.flow) || rapid.Bool().Draw(rt, "new connection") {
		p = m.phone(instance)
	}
	o.expect(200, p, "")
	m.bound(instance)
}

func (m *room) bound(instance string) {
	m.here[instance], m.known[instance] = m.phones[instance].flow, true
}

// check compares with the model, and holds up what must always be true.
func (m *room) check(rt *rapid.T, o *office) {
	all := o.Devices("alice")
	names, indices, keys := map[string]bool{}, map[int]bool{}, map[string]bool{}
	apps := 0
	for i, d := range all {
		if names[d.Name] || keys[d.Key] || d.Index != 0 && indices[d.Index] || d.Index < 0 || d.Index > maxIndex {
			rt.Fatalf("device %+v is not the only one of its name, key or index in %s", d, o.list("alice"))
		}
		names[d.Name], keys[d.Key], indices[d.Index] = true, true, true
		if i > 0 && byPresence(all[i-1], d) > 0 {
			rt.Fatalf("out of order: %s", o.list("alice"))
		}
		for _, b := range d.bindings() {
			if !o.agent.Alive(b.Flow) || !b.Expires.After(time.Now().Add(-2*time.Second)) {
				rt.Fatalf("%s has a binding that is over: %+v", d.Name, b)
			}
		}
		if d.Here() == (d.Reason != "") {
			rt.Fatalf("%s: here %v because %q", d.Name, d.Here(), d.Reason)
		}
		if d.Instance == "" {
			continue
		}
		apps++
		if flow, here := m.here[d.Instance]; here != d.Here() || here && d.Binding.Flow != flow {
			rt.Fatalf("%s is %+v, model says %v over %+v", d.Name, d, here, flow)
		}
	}
	if apps != len(m.known) {
		rt.Fatalf("%d apps are known, model says %d", apps, len(m.known))
	}
	m.checkStore(rt, o, all)
}

func (m *room) checkStore(rt *rapid.T, o *office, all []Device) {
	stored, err := o.store.Devices()
	if err != nil || len(stored) != len(all) {
		rt.Fatalf("%d devices are stored, %d known, %v", len(stored), len(all), err)
	}
	for _, d := range stored {
		if i := byKey(all, d.Key); i < 0 || !same(all[i], d) {
			rt.Fatalf("stored is %+v, which is not in %+v", d, all)
		}
	}
	bound := map[sip.Flow]bool{}
	for _, d := range all {
		for _, b := range d.bindings() {
			if stream(b.Flow) {
				bound[b.Flow] = true
			}
		}
	}
	if n := o.followed(); n != len(bound) {
		rt.Fatalf("%d connections are followed, %d bound", n, len(bound))
	}
}
