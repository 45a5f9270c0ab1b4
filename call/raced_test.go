//go:build race

package call_test

// raced says that the race detector is on: with it everything takes several times as long.
const raced = true
