package call

import "baton/sip"

const sdpType = "application/sdp"

// ringless asks a phone to answer by itself. It is sent only to ONE device that its own user has named or chosen; no
// header that comes in is ever passed on, so nobody else can ask for it (docs/moves.md).
func ringless(to sip.URI) []sip.Header {
	return []sip.Header{
		{Name: "Call-Info", Value: "<sip:" + to.Host + ">;answer-after=0"},
		{Name: "Alert-Info", Value: "<http://" + to.Host + ">;info=alert-autoanswer"},
		{Name: "Answer-Mode", Value: "Auto"}, // RFC 5373
	}
}

// identityHeaders tell a device who is on the other side (RFC 3325).
func identityHeaders(id sip.NameAddr) []sip.Header {
	id.Params = nil
	return []sip.Header{{Name: "P-Asserted-Identity", Value: id.String()}}
}

// elsewhere is why the other devices of a user stop ringing, so that they show no missed call (RFC 3326).
var elsewhere = &sip.CancelReason{Cause: 200, Text: "Call completed elsewhere"}
