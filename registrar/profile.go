package registrar

import (
	"fmt"
	"maps"
	"time"
)

// A device's profile is what its user has said of it, under Ringless and MediaMode, and what calls have taught of its phone, under the names
// below. It holds nothing else, and no long values: it lies in memory and in the store with each device.

// Ringless is the name in a device's profile under which its user says whether it may be asked to answer by itself.
const Ringless = "ringless"

// MediaMode is the name under which he says how its sound goes: auto, relay, direct.
const MediaMode = "media"

// Names of what is learnt.
const (
	LearntAnswer   = "answer"  // what became of asking it to answer by itself: an Answering
	LearntSRTP     = "srtp"    // what it offers: none, osrtp (RFC 8643), savp+avp, savp
	LearntHold     = "hold"    // how it says so: sendonly, recvonly, inactive, 0.0.0.0
	LearntReliable = "100rel"  // yes, no
	LearntUpdate   = "update"  // yes, no
	LearntTimer    = "timer"   // RFC 4028: yes, no
	LearntOptions  = "options" // whether it answers OPTIONS in a call: yes, no
	LearntLarge    = "large"   // how a message too long for one datagram has reached it: udp, connection
	LearntKeys     = "keys"    // how its keys come: rtp, info, both
	LearntCodecs   = "codecs"  // that it offers, in its order
)

// Learnable are the names of what is learnt, in the order in which people are shown them.
var Learnable = []string{
	LearntAnswer, LearntCodecs, LearntKeys, LearntHold, LearntSRTP, LearntReliable, LearntUpdate, LearntTimer, LearntOptions, LearntLarge,
}

// maxLearnt is the longest value that is kept, in bytes.
const maxLearnt = 96

// Answering is what became of asking a device to answer by itself.
type Answering struct {
	Way    string    `json:"way"`    // headers, talk (BroadSoft's NOTIFY), never
	Times  int       `json:"times"`  // that it went so
	Last   time.Time `json:"last"`   //
	Misses int       `json:"misses"` // since then, in a row: it rang
}

// The ways of answering.
const (
	ByHeaders = "headers"
	ByTalk    = "talk"
	ByHand    = "never"
)

// maxMisses is how often in a row a device that has answered by itself may ring before that is forgotten.
const maxMisses = 3

// maxTimes is where counting ends.
const maxTimes = 9999

// Answering reads what is known of the device; the zero value is nothing.
func (d Device) Answering() Answering {
	var a Answering
	var last int64
	if n, _ := fmt.Sscanf(d.Profile[LearntAnswer], "%s %d %d %d", &a.Way, &a.Times, &last, &a.Misses); n != 4 {
		return Answering{}
	}
	a.Last = time.Unix(last, 0)
	return a
}

// String writes it as it stands in a profile.
func (a Answering) String() string {
	return fmt.Sprintf("%s %d %d %d", a.Way, a.Times, a.Last.Unix(), a.Misses)
}

// Then is what is known after it went this way once more. A device that has answered by itself and now rings may be busy, or
// its user may have said so for an hour: only several misses in a row are believed.
func (a Answering) Then(way string, now time.Time) Answering {
	missed := way == ByHand && a.Way != ByHand && a.Way != ""
	switch {
	case missed && a.Misses+1 < maxMisses:
		a.Misses++
		return a
	case way != a.Way:
		return Answering{Way: way, Times: 1, Last: now}
	}
	return Answering{Way: way, Times: min(a.Times+1, maxTimes), Last: now}
}

// Learn keeps what was learnt of a device, "" = forget it. One write is made, and none where nothing is new. What was learnt of
// a phone that has another firmware by now is not of that.
func (r *Registrar) Learn(d Device, what map[string]string) {
	r.change(d.User, func(before []Device) []Device {
		i := byKey(before, d.Key)
		if i < 0 || before[i].UserAgent != d.UserAgent {
			return before
		}
		return learnt(before, d.Key, what)
	})
}

// learnt sets or ("") clears values of a device's profile.
func learnt(devices []Device, key string, what map[string]string) []Device {
	i := byKey(devices, key)
	if i < 0 {
		return devices
	}
	profile := maps.Clone(devices[i].Profile)
	for name, value := range what {
		if value = clip(value); value == "" {
			delete(profile, name)
			continue
		}
		if profile == nil {
			profile = make(map[string]string)
		}
		profile[name] = value
	}
	if len(profile) == 0 {
		profile = nil
	}
	after := append([]Device(nil), devices...)
	after[i].Profile = profile
	return after
}

// clip shortens a value to what is kept.
func clip(value string) string { return value[:min(len(value), maxLearnt)] }

// unlearnt is the profile of a device whose phone has another firmware: what its user has said of it stays.
func unlearnt(profile map[string]string) map[string]string {
	var said map[string]string
	for _, name := range []string{Ringless, MediaMode} {
		if value, there := profile[name]; there {
			if said == nil {
				said = map[string]string{}
			}
			said[name] = value
		}
	}
	return said
}
