package faults

import (
	"flag"
	"os"
	"testing"
	"time"

	"baton/test/e2e/node"
)

var (
	long   = flag.Duration("for", 0, "how long faults are made (make faults FAULTS=10m); 0 = none, the checks alone are tried")
	seed   = flag.Uint64("seed", 0, "the run to play again; 0 = a new one")
	only   = flag.String("only", "", "make the faults whose names fit this expression")
	twice  = flag.Int("twice", 6, "every n-th time two faults at once, whose outcome is told and not judged; 0 = never")
	pairs  = flag.Int("pairs", 9, "pairs of users that call each other")
	keep   = flag.String("logs", "", "directory for the nodes' logs; empty = one that is removed if nothing was broken")
	level  = flag.String("level", "debug", "log level of the nodes")
	quitAt = flag.Int("stop", 0, "stop after so many broken invariants; 0 = go on")
)

func TestMain(m *testing.M) {
	flag.Parse()
	if *long == 0 {
		os.Exit(m.Run())
	}
	if os.Getenv("BATON_TEST_RACE") == "" {
		_ = os.Setenv("BATON_TEST_RACE", "1")
	}
	node.Main(m)
}

// patience of the steps that are not judged by time.
const (
	soon  = 20 * time.Second
	later = 40 * time.Second
)
