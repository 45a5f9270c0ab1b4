package call

import (
	"net/netip"
	"testing"

	"baton/media"
)

// TestRenewedOffer: an offer that had to wait while a browser restarted ICE goes out with the credentials that hold by then: with those before
// it would restart ICE once more, under credentials that the node does not know.
func TestRenewedOffer(t *testing.T) {
	t.Parallel()
	local := func(ufrag string) media.Local {
		return media.Local{
			Addr: netip.MustParseAddrPort("192.0.2.1:8443"), Offers: media.DTLS,
			ICE: &media.ICE{Ufrag: ufrag, Pwd: media.Secret("secret"), Lite: true}, Fingerprints: []media.Fingerprint{{Hash: "sha-256", Value: "00"}},
		}
	}
	l := &Leg{origin: media.Origin{ID: 1, Version: 1}}
	l.local = media.NewOffer(l.origin, media.Known(), local("before"), media.SendRecv)
	waits, err := l.local.Reoffer(media.Known()[:1])
	if err != nil {
		t.Fatal(err)
	}
	waits = l.versioned(waits)
	l.local = l.versioned(media.NewOffer(l.origin, media.Known(), local("restarted"), media.SendRecv))
	offer := l.renewed(waits)
	if got := offer.Lines[0].ICE.Ufrag; got != "restarted" || !sameCodecs(offer, waits) || offer.Origin.Version != 4 {
		t.Errorf("offered with ufrag %q, codecs %v, version %d", got, media.Names(codecsOf(offer)), offer.Origin.Version)
	}
}
