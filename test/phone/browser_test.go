package phone

import (
	"net/netip"
	"testing"
)

// TestBrowserTakesItsOfferBack: after a refusal a browser can offer once more, and be offered something.
func TestBrowserTakesItsOfferBack(t *testing.T) {
	at := netip.MustParseAddrPort("127.0.0.1:1")
	open := func() *browser {
		b, err := openBrowser(Config{Addr: at.Addr(), Server: at, Codecs: []Codec{PCMU, DTMF}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(b.close)
		return b
	}
	one, other := open(), open()
	agree := func(from, to *browser) {
		t.Helper()
		offer, err := from.offer("sendrecv", false)
		if err != nil {
			t.Fatal(err)
		}
		if err := to.hear(offer, true); err != nil {
			t.Fatal(err)
		}
		answer, err := to.answer("sendrecv")
		if err != nil {
			t.Fatal(err)
		}
		if err := from.hear(answer, false); err != nil {
			t.Fatal(err)
		}
	}
	agree(one, other)
	for range 2 {
		for _, b := range []*browser{one, other} {
			if _, err := b.offer("sendrecv", false); err != nil {
				t.Fatal(err)
			}
			b.takeBack()
		}
	}
	agree(other, one)
}
