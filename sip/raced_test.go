//go:build race

package sip

// raced says that the race detector is on: everything takes several times as long with it.
const raced = true
