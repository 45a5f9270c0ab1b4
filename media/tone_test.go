package media

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
)

// TestToneFiles holds the prepared tones against the generated ones; with TONES_RAW it writes the latter for tones/make.sh.
func TestToneFiles(t *testing.T) {
	dir := os.Getenv("TONES_RAW")
	for _, one := range tones[1:] {
		samples := one.samples()
		if len(samples)%160 != 0 {
			t.Errorf("%s: %d samples are no whole frames", one.name, len(samples))
		}
		if dir != "" {
			var b bytes.Buffer
			if err := binary.Write(&b, binary.LittleEndian, samples); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, one.name+".raw"), b.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
			continue
		}
		frames := len(samples) / 160
		for _, ext := range []string{".ogg", ".g722.gz"} {
			if v := prepared(one.name+ext, frames); len(v) != frames || frames != one.frames() {
				t.Errorf("%s%s: %d frames, want %d (%d)", one.name, ext, len(v), frames, one.frames())
			}
		}
	}
}
