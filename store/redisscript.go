package store

import (
	"context"
	"crypto/sha1"
	_ "embed"
	"encoding/hex"
	"strings"

	"github.com/redis/go-redis/v9"
)

//go:embed redis.lua
var redisLua string

// script is one of redis.lua.
type script struct{ text, sha string }

// scripts are all of redis.lua by name.
var scripts = readScripts(redisLua)

func readScripts(text string) map[string]script {
	all := map[string]script{}
	for _, part := range strings.Split(text, "\n--- ")[1:] {
		name, _, _ := strings.Cut(part, " ")
		_, body, _ := strings.Cut(part, "\n")
		sum := sha1.Sum([]byte(body)) //nolint:gosec // it is how Redis names scripts
		all[name] = script{body, hex.EncodeToString(sum[:])}
	}
	return all
}

// loadScripts has Redis know them all: a server that was restarted, or is a master only now, knows none.
func loadScripts(ctx context.Context, c redis.Cmdable) error {
	pipe := c.Pipeline()
	for _, s := range scripts {
		pipe.ScriptLoad(ctx, s.text)
	}
	_, err := pipe.Exec(ctx)
	return err
}

// unknown says whether a script was not known to the server.
func unknown(err error) bool { return err != nil && strings.HasPrefix(err.Error(), "NOSCRIPT") }

// eval queues a script.
func eval(ctx context.Context, p redis.Pipeliner, name string, keys []string, args ...any) *redis.Cmd {
	return p.EvalSha(ctx, scripts[name].sha, keys, args...)
}

// serverTrouble are the errors of a server that will take the same write later, when it has room, a disk, or replicas again, or
// another is the master. (Its texts: Redis 7, server.c.)
var serverTrouble = []string{
	"OOM ", "MISCONF ", "READONLY ", "LOADING ", "MASTERDOWN ", "NOREPLICAS ", "CLUSTERDOWN ", "TRYAGAIN ", "BUSY ",
	"NOAUTH ", "WRONGPASS ", "NOPERM ", "NOSCRIPT ", "UNKILLABLE ", "ERR max number of clients", "ERR Error running script",
}

// permanent says that a server has refused a write in a way that it always will. What stands in another error was said of the way
// to it, by a sentinel or as a connection began.
func permanent(err error) bool {
	if _, ok := err.(redis.Error); !ok || absent(err) {
		return false
	}
	for _, prefix := range serverTrouble {
		if strings.HasPrefix(err.Error(), prefix) {
			return false
		}
	}
	return true
}
