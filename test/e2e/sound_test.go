package e2e

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"testing"
	"time"
)

// rate is that of all recordings and tones here.
const rate = 8000

// writeTone writes a WAV file with a sine of that frequency.
func writeTone(t *testing.T, path string, hz float64, long time.Duration) {
	t.Helper()
	n := int(long.Seconds() * rate)
	b := make([]byte, 44+2*n)
	copy(b, "RIFF")
	binary.LittleEndian.PutUint32(b[4:], uint32(36+2*n))
	copy(b[8:], "WAVEfmt ")
	binary.LittleEndian.PutUint32(b[16:], 16)
	binary.LittleEndian.PutUint16(b[20:], 1) // PCM
	binary.LittleEndian.PutUint16(b[22:], 1) // mono
	binary.LittleEndian.PutUint32(b[24:], rate)
	binary.LittleEndian.PutUint32(b[28:], 2*rate)
	binary.LittleEndian.PutUint16(b[32:], 2)
	binary.LittleEndian.PutUint16(b[34:], 16)
	copy(b[36:], "data")
	binary.LittleEndian.PutUint32(b[40:], uint32(2*n))
	for i := range n {
		v := 12000 * math.Sin(2*math.Pi*hz*float64(i)/rate)
		binary.LittleEndian.PutUint16(b[44+2*i:], uint16(int16(v)))
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// readWAV reads the samples of a recording; a header whose sizes were never filled in is taken as it is.
func readWAV(path string) ([]float64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if len(b) < 44 || string(b[:4]) != "RIFF" {
		return nil, fmt.Errorf("%s is no WAV file", path)
	}
	at := 12
	for at+8 <= len(b) && string(b[at:at+4]) != "data" {
		at += 8 + int(binary.LittleEndian.Uint32(b[at+4:]))
	}
	if at+8 > len(b) {
		return nil, fmt.Errorf("%s has no sound in it", path)
	}
	b = b[at+8:]
	samples := make([]float64, len(b)/2)
	for i := range samples {
		samples[i] = float64(int16(binary.LittleEndian.Uint16(b[2*i:])))
	}
	return samples, nil
}

// share is the part of the samples' energy that lies at the frequency (Goertzel's algorithm), 0..1.
func share(samples []float64, hz float64) float64 {
	k := 2 * math.Cos(2*math.Pi*hz/rate)
	var s1, s2, energy float64
	for _, x := range samples {
		s1, s2 = x+k*s1-s2, s1
		energy += x * x
	}
	if energy == 0 {
		return 0
	}
	power := s1*s1 + s2*s2 - k*s1*s2
	return 2 * power / (float64(len(samples)) * energy)
}

// heardTone is for how long the tone is heard in a recording, by windows of 20 ms.
func heardTone(samples []float64, hz float64) time.Duration {
	const window = rate / 50
	n := 0
	for i := 0; i+window <= len(samples); i += window {
		if w := samples[i : i+window]; rms(w) > 500 && share(w, hz) > 0.8 {
			n++
		}
	}
	return time.Duration(n) * 20 * time.Millisecond
}

func rms(samples []float64) float64 {
	sum := 0.0
	for _, x := range samples {
		sum += x * x
	}
	return math.Sqrt(sum / float64(len(samples)))
}

// silence is how long a recording is silent between its first and its last sound: windows of 5 ms with less than a
// quarter of the loudness that half of them have.
func silence(samples []float64) (silent, sounding time.Duration) {
	const window = rate / 200
	var loud []float64
	for i := 0; i+window <= len(samples); i += window {
		loud = append(loud, rms(samples[i:i+window]))
	}
	limit := 0.25 * middle(loud)
	first, last, n := -1, -1, 0
	for i, v := range loud {
		if v > limit && v > 100 {
			if first < 0 {
				first = i
			}
			last = i
		}
	}
	if first < 0 {
		return 0, 0
	}
	for _, v := range loud[first : last+1] {
		if v <= limit {
			n++
		}
	}
	return time.Duration(n) * 5 * time.Millisecond, time.Duration(last+1-first) * 5 * time.Millisecond
}

func middle(all []float64) float64 {
	loud := []float64{}
	for _, v := range all {
		if v > 100 {
			loud = append(loud, v)
		}
	}
	if len(loud) == 0 {
		return 0
	}
	top := 0.0
	for _, v := range loud {
		top = max(top, v)
	}
	return top / math.Sqrt2 / 1.2
}

func TestToneIsFound(t *testing.T) {
	dir := t.TempDir()
	writeTone(t, dir+"/a.wav", 500, 2*time.Second)
	samples, err := readWAV(dir + "/a.wav")
	if err != nil {
		t.Fatal(err)
	}
	if got := heardTone(samples, 500); got != 2*time.Second {
		t.Errorf("500 Hz for %s", got)
	}
	if got := heardTone(samples, 700); got != 0 {
		t.Errorf("700 Hz for %s", got)
	}
	for i := 4000; i < 4800; i++ {
		samples[i] = 0
	}
	if silent, _ := silence(samples); silent < 95*time.Millisecond || silent > 105*time.Millisecond {
		t.Errorf("100 ms were cut out, found %s", silent)
	}
}
