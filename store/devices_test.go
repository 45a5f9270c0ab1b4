package store

import (
	"encoding/json"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"baton/registrar"
)

// TestDevicesOfEarlierVersions reads a device as it was once written, as JSON, beside one of today.
func TestDevicesOfEarlierVersions(t *testing.T) {
	b, err := Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	since := time.Date(2026, 11, 26, 10, 0, 0, 0, time.UTC)
	old := registrar.Device{User: "alice", Name: "old", Key: "k1", Since: since, Binding: &registrar.Binding{Contact: "sip:a@h", Expires: since}}
	value, err := json.Marshal(old)
	if err != nil {
		t.Fatal(err)
	}
	err = b.state.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket(devicesBucket).Put(deviceKey("alice", "k1"), value)
	})
	if err != nil {
		t.Fatal(err)
	}
	b.Bind("alice", []registrar.Device{{User: "alice", Name: "new", Key: "k2"}}, nil, nil)
	b.commit.flush()
	all, err := b.Devices()
	if err != nil || len(all) != 2 || all[0].Name != "old" || !all[0].Binding.Expires.Equal(since) || all[1].Name != "new" {
		t.Errorf("%v, %+v", err, all)
	}
}
