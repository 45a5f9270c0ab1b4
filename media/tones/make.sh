#!/bin/sh
# Makes the tones in the codecs that baton cannot encode itself: Opus (20 ms frames, in Ogg) and G.722 (64 kbit/s, gzipped).
# Needs Debian's ffmpeg. The sound is that of tone.go, written as 16-bit PCM at 8 kHz by its test.
set -eu
cd "$(dirname "$0")"
raw=$(mktemp -d)
trap 'rm -rf "$raw"' EXIT
(cd .. && TONES_RAW="$raw" go test -count=1 -run '^TestToneFiles$' .)
for f in "$raw"/*.raw; do
	name=$(basename "$f" .raw)
	ffmpeg -v error -y -f s16le -ar 8000 -ac 1 -i "$f" -ar 48000 -ac 1 -c:a libopus -b:a 16k -vbr on -application voip \
		-frame_duration 20 -map_metadata -1 -fflags +bitexact -flags:a +bitexact "$name.ogg"
	ffmpeg -v error -y -f s16le -ar 8000 -ac 1 -i "$f" -ar 16000 -ac 1 -c:a g722 -f g722 "$raw/$name.g722"
	gzip -9 -n -c "$raw/$name.g722" >"$name.g722.gz"
done
