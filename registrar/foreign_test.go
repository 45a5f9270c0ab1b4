package registrar

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// sharedStore is a store that another node writes too.
type sharedStore struct {
	*memory
	changes chan Change
	during  func() // after something was read, before it is given
}

func (s *sharedStore) Changes(ctx context.Context, tell func(Change)) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case c := <-s.changes:
			tell(c)
		}
	}
}

func (s *sharedStore) ReadUser(name string) (*User, []Device, error) {
	users, err := s.Users()
	if err != nil {
		return nil, nil, err
	}
	all, err := s.Devices()
	var devices []Device
	for _, d := range all {
		if d.User == name {
			own, err := Unpack(string(d.Pack(nil))) // what is read is nobody else's
			if err != nil {
				return nil, nil, err
			}
			devices = append(devices, own)
		}
	}
	if f := s.during; f != nil {
		s.during = nil
		f()
	}
	for _, u := range users {
		if u.Name == name {
			return &u, devices, err
		}
	}
	return nil, devices, err
}

// foreignOffice is an office whose store another node, n2, writes too.
func foreignOffice(t *testing.T) (*office, *sharedStore) {
	t.Helper()
	o := newOffice(t, "alice")
	o.stop()
	s := &sharedStore{memory: o.store, changes: make(chan Change)}
	o.shared = s
	o.open()
	return o, s
}

// TestForeignBindings: another node's binding is that node's to ask and to end. Its connection is none of ours, and its end comes from
// there; where it does not, it is ended here half a minute later.
func TestForeignBindings(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o, s := foreignOffice(t)
		flow := tcp("198.51.100.8:40000", 1)
		o.agent.set(func() { o.agent.dead[flow] = true })
		now := time.Now().Round(0)
		d := Device{User: "alice", Name: "mobile", Index: 1, Key: "k", Since: now, Binding: &Binding{
			Contact: "sip:alice@198.51.100.8", Flow: flow, Registered: now, Expires: now.Add(10 * time.Minute), Node: "n2",
		}}
		appeared := 0
		defer o.Watch("alice", func(Device) { appeared++ })()
		s.Bind("alice", []Device{d}, nil, func(error) {})
		s.changes <- Change{Devices: []string{"alice"}}
		time.Sleep(time.Second)
		o.want("alice", "1 mobile here")
		if appeared != 1 {
			t.Errorf("who waits for the device is told %d times", appeared)
		}
		if e := o.journal.take(); len(e) != 0 {
			t.Errorf("the log has what the other node writes into it: %+v", e)
		}
		o.FlowClosed(flow) // of ours with that number
		o.Unreachable("alice", "k", "does not answer")
		time.Sleep(9 * time.Minute)
		o.want("alice", "1 mobile here")
		o.restart()
		o.want("alice", "1 mobile here")
		if len(o.agent.asked) != 0 {
			t.Errorf("another node's phone was asked: %v", o.agent.asked)
		}
		time.Sleep(75 * time.Second) // it has expired
		o.want("alice", "1 mobile here")
		time.Sleep(30 * time.Second)
		o.want("alice", "1 mobile away")
	})
}

// TestForeignChanges: what this node is writing is newer than what it reads meanwhile; what the other node ends is gone here.
func TestForeignChanges(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o, s := foreignOffice(t)
		o.store.set(func() { o.store.slow = true })
		phone := desk("alice", "Yealink SIP-T46S 1", "198.51.100.7:5060")
		answer := o.send(phone, "")
		time.Sleep(time.Second)
		go func() { s.changes <- Change{Devices: []string{"alice"}} }() // the store has none yet
		time.Sleep(time.Second)
		o.store.release()
		time.Sleep(time.Second)
		synctest.Wait()
		if answer.code != 200 {
			t.Fatalf("%+v", answer)
		}
		o.want("alice", "1 yealink-t46s here")

		mobile := app("alice", "baresip v3", "urn:uuid:1", tcp("198.51.100.8:40000", 1))
		read := make(chan struct{})
		s.during = func() { o.expect(200, mobile, ""); close(read) }
		s.changes <- Change{Devices: []string{"alice"}}
		<-read
		time.Sleep(time.Second)
		o.want("alice", "1 yealink-t46s here, 2 baresip here")

		o.expect(200, mobile, "0")
		s.Bind("alice", nil, []string{o.Devices("alice")[0].Key}, func(error) {})
		s.changes <- Change{All: true}
		time.Sleep(time.Second)
		o.want("alice", "2 baresip away")
		if err := s.RemoveUser("alice"); err != nil {
			t.Fatal(err)
		}
		s.changes <- Change{All: true}
		time.Sleep(time.Second)
		if _, ok := o.User("alice"); ok {
			t.Error("a user who was removed at the other node is here")
		}
	})
}

// TestForeignSilence: whether another node's binding answers, and for how long it may not, is that node's to say: here it is neither
// asked nor ended, though the device has spoken here by another flow.
func TestForeignSilence(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o, s := foreignOffice(t)
		now := time.Now().Round(0)
		there := Binding{
			Contact: "sip:alice@198.51.100.8", Flow: udp("198.51.100.8:5060"), RegID: 1, Registered: now, Expires: now.Add(4 * time.Hour), Node: "n2",
		}
		d := Device{User: "alice", Name: "mobile", Index: 1, Key: "k", Since: now, Binding: &there}
		tell := func(d Device) {
			s.Bind("alice", []Device{d}, nil, func(error) {})
			s.changes <- Change{Devices: []string{"alice"}}
			time.Sleep(time.Second)
		}
		tell(d)
		time.Sleep(time.Hour) // longer than registrar.unreachable
		silent := there
		silent.Silent = true
		tell(d.settle([]Binding{silent}, "does not answer OPTIONS", time.Now()))
		o.mail.Do(func() { o.hearKey("alice", "k") })
		time.Sleep(10 * time.Minute)
		if spare := o.Devices("alice")[0].Spare; len(spare) != 1 {
			t.Errorf("another node's binding was ended: %+v", o.Devices("alice")[0])
		}
		if len(o.agent.asked) != 0 {
			t.Errorf("another node's phone was asked: %v", o.agent.asked)
		}
	})
}

// TestForeignLateWrite: a device is registered here, and then stands in the store as it was before, as another node had kept it or
// as the store was saved: it is written again. What another node has written later is taken.
func TestForeignLateWrite(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o, s := foreignOffice(t)
		mobile := app("alice", "baresip v3", "urn:uuid:1", tcp("198.51.100.8:40000", 1))
		stored := func() Device {
			_, all, err := s.ReadUser("alice")
			if err != nil || len(all) != 1 {
				t.Fatalf("stored are %v, %v", all, err)
			}
			return all[0]
		}
		write := func(d Device) {
			s.Bind("alice", []Device{d}, nil, func(error) {})
			s.changes <- Change{All: true}
			time.Sleep(time.Second)
		}
		o.expect(200, mobile, "")
		old := stored()
		there := *old.Binding
		there.Node, there.Flow = "n2", udp("198.51.100.9:5060")
		time.Sleep(time.Minute)
		o.expect(200, mobile, "")
		now := stored()
		write(old.settle([]Binding{there}, "", old.Since))
		if d := o.Devices("alice")[0]; !same(d, now) {
			t.Errorf("here it is %+v", d)
		}
		if d := stored(); !same(d, now) {
			t.Errorf("stored is %+v", d)
		}
		there.Registered = time.Now().Round(0)
		write(old.settle([]Binding{there}, "", old.Since))
		if d := o.Devices("alice")[0]; d.Binding.Node != "n2" {
			t.Errorf("a later registration there is not taken: %+v", d)
		}
		o.expect(200, mobile, "")
		time.Sleep(time.Minute)
		write(now.settle(nil, reasonUnregistered, time.Now().Round(0)))
		o.want("alice", "1 baresip away")
	})
}

// TestSameIndexAtTwoNodes: two nodes have met a new device of a user each at the same moment, and given both the same index and name. The newer
// one is called otherwise, by its own node.
func TestSameIndexAtTwoNodes(t *testing.T) {
	for _, theirsIsOlder := range []bool{true, false} {
		bubble(t, func(t *testing.T) {
			o, s := foreignOffice(t)
			o.expect(200, desk("alice", "Yealink SIP-T46S 1", "198.51.100.7:5060"), "")
			o.want("alice", "1 yealink-t46s here")
			since := time.Now().Add(time.Second)
			if theirsIsOlder {
				since = time.Now().Add(-time.Minute)
			}
			theirs := Device{User: "alice", Name: "yealink-t46s", Index: 1, Key: "theirs", Since: since.Round(0), Binding: &Binding{
				Contact: "sip:alice@198.51.100.8", Flow: tcp("198.51.100.8:40000", 1), Registered: since, Expires: since.Add(10 * time.Minute), Node: "n2",
			}}
			s.Bind("alice", []Device{theirs}, nil, func(error) {})
			s.changes <- Change{Devices: []string{"alice"}}
			time.Sleep(time.Second)
			synctest.Wait()
			_, stored, err := s.ReadUser("alice")
			if err != nil || len(stored) != 2 {
				t.Fatalf("stored are %d devices, %v", len(stored), err)
			}
			for _, d := range stored {
				want := "1 yealink-t46s" // n2's is n2's to change
				if d.Key != "theirs" && theirsIsOlder {
					want = "2 yealink-t46s-2"
				}
				if d.Label() != want {
					t.Errorf("theirs is older: %v; device %q is stored as %s, want %s", theirsIsOlder, d.Key, d.Label(), want)
				}
			}
			if theirsIsOlder {
				o.want("alice", "1 yealink-t46s here, 2 yealink-t46s-2 here")
			}
		})
	}
}
