package load

import (
	"runtime"
	"runtime/metrics"
	"time"
)

// What is read of Go's runtime.
const (
	waits    = "/sched/latencies:seconds" // from ready to running, of every eighth time
	held     = "/memory/classes/total:bytes"
	released = "/memory/classes/heap/released:bytes"
)

// procs is how many processors the process may use. What the media engine adds to GOMAXPROCS later, for its threads that wait with one, are none.
var procs = runtime.GOMAXPROCS(0)

// read takes a sample of this process.
func read() Sample {
	all := []metrics.Sample{{Name: waits}, {Name: held}, {Name: released}}
	metrics.Read(all)
	s := Sample{At: time.Now(), CPU: processorTime(), Procs: procs}
	if all[0].Value.Kind() == metrics.KindFloat64Histogram {
		h := all[0].Value.Float64Histogram()
		s.Waits = Histogram{Counts: h.Counts, From: h.Buckets[:len(h.Counts)]}
	}
	s.Memory = number(all[1]) - number(all[2])
	return s
}

func number(s metrics.Sample) uint64 {
	if s.Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return s.Value.Uint64()
}
