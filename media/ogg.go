package media

import (
	"bytes"
	"compress/gzip"
	"embed"
	"io"
	"slices"
	"strings"
)

// preparedFiles are the tones in codecs that Go cannot make; tones/make.sh is the recipe.
//
//go:embed tones/*.ogg tones/*.g722.gz
var preparedFiles embed.FS

// prepared reads the frames of one cycle from a tone's file; encoders add some at the end. A broken file, which the tests would have
// found, is silence.
func prepared(name string, frames int) voice {
	b, err := preparedFiles.ReadFile("tones/" + name)
	if err != nil {
		return nil
	}
	v := g722Frames(b)
	if strings.HasSuffix(name, ".ogg") {
		v = oggPackets(b)
	}
	return v[:min(frames, len(v))]
}

func g722Frames(b []byte) voice {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil
	}
	raw, err := io.ReadAll(z)
	if err != nil {
		return nil
	}
	return slices.Collect(slices.Chunk(raw, 160)) // 64 kbit/s
}

// oggPackets returns the Opus packets of an Ogg file (RFC 3533, RFC 7845) without the two headers.
func oggPackets(b []byte) voice {
	var all voice
	var part []byte
	for len(b) >= 27 && string(b[:4]) == "OggS" {
		n := int(b[26])
		if len(b) < 27+n {
			break
		}
		lacing, body := b[27:27+n], b[27+n:]
		for _, size := range lacing {
			if len(body) < int(size) {
				return nil
			}
			part = append(part, body[:size]...)
			body = body[size:]
			if size < 255 {
				all = append(all, part)
				part = nil
			}
		}
		b = body
	}
	if len(all) < 2 {
		return nil
	}
	return all[2:]
}
