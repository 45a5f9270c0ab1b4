package node

import (
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// Drop has the tests' own namespace throw away what arrives and matches one of these rules of iptables, as a network that has been cut, until heal is called or
// the test ends. Who sends learns nothing of it.
func Drop(t testing.TB, rules ...string) (heal func()) {
	t.Helper()
	tables := func(what, rule string) error {
		return exec.Command("iptables", append([]string{"-w", what, "INPUT"}, strings.Fields(rule+" -j DROP")...)...).Run()
	}
	var there []string
	heal = sync.OnceFunc(func() {
		for _, rule := range there {
			if err := tables("-D", rule); err != nil {
				t.Errorf("iptables -D INPUT %s: %v", rule, err)
			}
		}
	})
	t.Cleanup(heal)
	for _, rule := range rules {
		if err := tables("-I", rule); err != nil {
			t.Fatalf("iptables -I INPUT %s: %v", rule, err)
		}
		there = append(there, rule)
	}
	return heal
}
