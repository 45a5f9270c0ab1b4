//go:build race

package media

// raced says that the race detector is on: with it crypto/sha1 allocates once for each sum.
const raced = true
