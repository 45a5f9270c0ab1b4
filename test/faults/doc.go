// Package faults breaks a cluster in one way after the other while phones talk through it, and holds it to what may not happen then:
// two owners of a call in one epoch, two nodes that speak to one phone, an answered call that is lost, something that is left behind.
//
//	make faults FAULTS=10m [SEED=7] [KIND='frozen|killed']
//
// The checks themselves (history.go, verdict.go) are tried on made-up histories by go test; the run needs the flag -for.
package faults
