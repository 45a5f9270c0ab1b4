package main

import (
	"os"
	"path/filepath"
	"testing"

	"baton/config"
	"baton/doctor"
)

// TestDoctorOfAMissingFile: a Redis that cannot be asked, as its key file or its socket is not there, is not one that answers and has nothing.
func TestDoctorOfAMissingFile(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "cluster.key")
	if err := os.WriteFile(key, []byte("BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct{ key, password string }{
		"key":      {key: filepath.Join(dir, "none")},
		"password": {key, filepath.Join(dir, "none")},
		"socket":   {key: key},
	} {
		p := patient{config: config.Default()}
		p.config.Data, p.config.Cluster.KeyFile, p.config.Store.PasswordFile = dir, c.key, c.password
		p.config.Store.Redis = config.RedisURL("unix://" + filepath.Join(dir, "redis.sock"))
		p.open()
		if f := p.aboutRedis(); f.Level != doctor.Error {
			t.Errorf("without its %s: %+v", what, f)
		}
	}
}
