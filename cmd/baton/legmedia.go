package main

import "baton/call"

// legMedia is a leg's audio: where it comes from, what was heard of the device and what was sent to it.
func legMedia(l call.LegInfo) []string {
	return []string{orDash(l.Stats.Remote)}
}
