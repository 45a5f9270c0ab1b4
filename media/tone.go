package media

// Tone names a sound that baton makes itself.
type Tone uint8

// The tones.
const (
	ToneNone    Tone = iota // nothing
	ToneHold                // you are on hold
	ToneWait                // the other one will be back
	ToneEnded               // the call has ended
	ToneUnknown             // no such number: the special information tone (ITU-T E.180)
	ToneAway                // nobody there
	ToneRing                // ringing at the other side
)
