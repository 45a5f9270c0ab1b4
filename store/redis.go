package store

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"baton/call"
	"baton/config"
	"baton/journal"
	"baton/registrar"
)

const (
	// readTimeout bounds what somebody waits for who can wait: reading at the start, writing a user.
	readTimeout = 5 * time.Second
	// writeTimeout bounds one batch of what must not wait. It is longer than a replica may take, and shorter than a phone waits
	// before it repeats a request.
	writeTimeout = 500 * time.Millisecond
	// openTimeout is for the first answer of a server, a failover included.
	openTimeout = 5 * time.Second
)

// RedisOptions is what a Redis store needs.
type RedisOptions struct {
	config.Store
	Key     []byte // of the cluster, 32 bytes
	KeyFile string // where it came from, for what is said of it
	Node    string // name of this node
	Log     *slog.Logger
}

// Redis is the store that any number of nodes share. Writes are queued and sent in order by one writer, which does not wait for
// company; while the server is away the newest of each call and device is kept and sent when it is back (redisqueue.go).
// Secrets are sealed with the cluster's key.
//
// Keys, each behind the prefix: call:{id} and devices:{user} are hashes, of which one is compared and set (redis.lua);
// calls, own:node and bound are sets of what there may be, written before it and verified when read; users, tokens, subscriptions and meta
// are hashes; log and changes are capped streams.
type Redis struct {
	// set once
	log     *slog.Logger
	client  *redis.Client
	options func() *redis.Client // makes another one, for what blocks
	prefix  string
	node    string
	run     string // of this process
	sealed  sealer
	realm   string
	secret  []byte
	lastRun time.Time
	write   *redisQueue
	health  *redisHealth

	counted atomic.Int64 // records of calls of this node, when they were last counted

	mu   sync.Mutex
	keep retention
}

var (
	_ registrar.Store = (*Redis)(nil)
	_ call.Store      = (*Redis)(nil)
	_ journal.Journal = (*Redis)(nil)
)

// quiet takes what go-redis would write to stderr.
type quiet struct{ log *slog.Logger }

func (q quiet) Printf(ctx context.Context, format string, v ...any) {
	if q.log.Enabled(ctx, slog.LevelDebug) {
		q.log.Debug("redis: " + fmt.Sprintf(format, v...))
	}
}

var quieten sync.Once

// OpenRedis opens the store; the first node makes realm and secret.
func OpenRedis(o RedisOptions) (*Redis, error) {
	s, err := newRedis(o)
	if err != nil {
		return nil, err
	}
	if err := s.begin(o); err != nil {
		if errors.Is(err, redis.Nil) {
			err = fmt.Errorf("the sentinels know no such master: %w", err)
		}
		return nil, errors.Join(fmt.Errorf("open store at %s: %w", o.Redis, err), s.client.Close())
	}
	return s, nil
}

// newRedis makes one that has not spoken with a server yet.
func newRedis(o RedisOptions) (*Redis, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	quieten.Do(func() { redis.SetLogger(quiet{o.Log}) })
	at, err := o.Redis.Parse()
	if err != nil {
		return nil, fmt.Errorf("store.redis: %w", err)
	}
	connect, err := dialer(at, o)
	if err != nil {
		return nil, err
	}
	s := &Redis{log: o.Log, options: connect, prefix: o.Prefix, node: o.Node, run: runName(), keep: retention{entries: defaultEntries}}
	if s.sealed, err = newSealer(o.Key); err != nil {
		return nil, err
	}
	s.client, s.health = connect(), &redisHealth{log: o.Log}
	s.write = newRedisQueue(s, at.Master != "")
	return s, nil
}

func runName() string {
	b := make([]byte, 8)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}

// dialer says how a client is made.
func dialer(at config.RedisServer, o RedisOptions) (func() *redis.Client, error) {
	password := at.Password
	if o.PasswordFile != "" {
		text, err := os.ReadFile(o.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("store.password_file: %w", err)
		}
		password = strings.TrimRight(string(text), "\r\n")
	}
	var secure *tls.Config
	if at.TLS {
		secure = &tls.Config{MinVersion: tls.VersionTLS12}
		if o.CA != "" {
			pem, err := os.ReadFile(o.CA)
			if err != nil {
				return nil, fmt.Errorf("store.ca: %w", err)
			}
			secure.RootCAs = x509.NewCertPool()
			if !secure.RootCAs.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("store.ca: %s holds no certificate in PEM", o.CA)
			}
		}
	}
	if at.Master == "" {
		return func() *redis.Client { return redis.NewClient(single(at, password, secure)) }, nil
	}
	return func() *redis.Client { return redis.NewFailoverClient(watched(at, password, secure)) }, nil
}

// single is a server without sentinels. Nothing is tried twice by the client: its user knows better what is still wanted.
func single(at config.RedisServer, password string, secure *tls.Config) *redis.Options {
	o := &redis.Options{
		Network: "tcp", Addr: at.Addrs[0], Username: at.User, Password: password, DB: at.DB, Protocol: 2, TLSConfig: secure,
		MaxRetries: -1, DialerRetries: 1, DialTimeout: time.Second, ReadTimeout: readTimeout, WriteTimeout: readTimeout, ContextTimeoutEnabled: true,
		DisableIdentity: true, MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if at.Unix {
		o.Network = "unix"
	}
	return o
}

// watched is a master that sentinels name, with the same times.
func watched(at config.RedisServer, password string, secure *tls.Config) *redis.FailoverOptions {
	return &redis.FailoverOptions{
		MasterName: at.Master, SentinelAddrs: at.Addrs, SentinelUsername: at.SentinelUser, SentinelPassword: at.SentinelPassword,
		Username: at.User, Password: password, DB: at.DB, Protocol: 2, TLSConfig: secure,
		MaxRetries: -1, DialerRetries: 1, DialTimeout: time.Second, ReadTimeout: readTimeout, WriteTimeout: readTimeout, ContextTimeoutEnabled: true,
		DisableIdentity: true,
	}
}

// identity is what the first node makes for all.
type identity struct {
	Realm  string `json:"realm"`
	Secret []byte `json:"secret"`
}

const identityField = "identity"

// begin reads what the store is, or makes it, and waits for a server that is just coming up.
func (s *Redis) begin(o RedisOptions) error {
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	err := s.readIdentity(ctx, o)
	for pause := 50 * time.Millisecond; err != nil && s.passing(err) && ctx.Err() == nil; pause *= 2 {
		time.Sleep(pause)
		if again := s.readIdentity(ctx, o); !errors.Is(again, context.DeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
			err = again // the time that is over says nothing of why
		}
	}
	if err == nil {
		err = loadScripts(ctx, s.client)
	}
	if err == nil {
		s.health.well("")
	}
	return err
}

// passing says that trying again may help.
func (s *Redis) passing(err error) bool {
	for _, of := range []string{"NOAUTH", "WRONGPASS", "NOPERM", "ERR AUTH", "ERR DB index"} {
		if strings.Contains(err.Error(), of) {
			return false
		}
	}
	var distrust *tls.CertificateVerificationError
	return !permanent(err) && !errors.Is(err, errSealed) && !errors.Is(err, redis.Nil) && !errors.As(err, &distrust)
}

// readIdentity reads the identity, and makes it if there is none. A server that takes no writes now is enough for a node that begins again.
func (s *Redis) readIdentity(ctx context.Context, o RedisOptions) error {
	if err := s.openIdentity(ctx, o); !absent(err) {
		return err
	}
	id := identity{realm, make([]byte, keySize)}
	_, _ = rand.Read(id.Secret)
	plain, err := json.Marshal(id)
	if err != nil {
		return err
	}
	if err = s.client.HSetNX(ctx, s.key("meta"), identityField, s.sealed.seal(identityField, plain)).Err(); err != nil {
		return err
	}
	return s.openIdentity(ctx, o)
}

// openIdentity reads what the first node has made, and when this node last ran; redis.Nil = nothing was made yet.
func (s *Redis) openIdentity(ctx context.Context, o RedisOptions) error {
	v, err := s.client.HGet(ctx, s.key("meta"), identityField).Bytes()
	if err != nil {
		return err
	}
	plain, err := s.sealed.open(identityField, v)
	if err != nil {
		return fmt.Errorf("cluster.key_file: the key in %s does not open what is stored under %q: %w; take the key of the nodes that use this store, or another store.prefix to begin anew",
			o.KeyFile, s.prefix, err)
	}
	var id identity
	if err := json.Unmarshal(plain, &id); err != nil {
		return err
	}
	s.realm, s.secret = id.Realm, id.Secret
	ms, err := s.client.HGet(ctx, s.key("meta"), beatField(s.node)).Int64()
	if err == nil {
		s.lastRun = time.UnixMilli(ms)
	} else if absent(err) {
		err = nil
	}
	return err
}

// absent says that there is no such value. Where it stands in another error, sentinels have said so of the master.
func absent(err error) bool { return err == redis.Nil }

func beatField(node string) string { return "beat:" + node }

func (s *Redis) key(name string) string { return s.prefix + name }

// Names with braces are in the hash slot of what stands in them.
func (s *Redis) callKey(id string) string      { return s.prefix + "call:{" + id + "}" }
func (s *Redis) devicesKey(user string) string { return s.prefix + "devices:{" + user + "}" }

func (s *Redis) userKeys() []string {
	return []string{s.key("{users}"), s.key("{users}:logins"), s.key("{users}:of")}
}

// waiting is a context for what somebody waits for.
func waiting() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), readTimeout)
}

// Run sends what is queued until ctx ends, and then what is left.
func (s *Redis) Run(ctx context.Context) error {
	s.write.loop(ctx)
	return nil
}

// Close sends what is queued, as far as the server takes it, and ends the connections. Run must have returned.
func (s *Redis) Close() error {
	s.write.close()
	return s.client.Close()
}

// Realm is that of every challenge and secret, the same at all nodes.
func (s *Redis) Realm() string { return s.realm }

// Secret is the cluster's own, 32 bytes, the same at all nodes.
func (s *Redis) Secret() []byte { return s.secret }

// LastRun is when this node was last known to run before the store was opened; zero = never.
func (s *Redis) LastRun() time.Time { return s.lastRun }

// Keep sets how long entries of the log are kept (0 = for ever), and how many at most, about.
func (s *Redis) Keep(age time.Duration, entries int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keep.age, s.keep.entries = age, entries
}

// Beat writes down every second that the node runs, until ctx ends. It also finds out how the store is when nothing else is written.
func (s *Redis) Beat(ctx context.Context) error {
	tick := time.NewTicker(redisBeat)
	defer tick.Stop()
	for n := 0; ; n++ {
		s.beat(time.Now(), n%60 == 0)
		select {
		case <-ctx.Done():
			s.beat(time.Now(), false)
			return nil
		case <-tick.C:
		}
	}
}

const redisBeat = time.Second

func (s *Redis) beat(now time.Time, tidy bool) {
	s.mu.Lock()
	keep := s.keep
	s.mu.Unlock()
	s.write.later(&change{key: "beat", asks: true, issue: func(ctx context.Context, p redis.Pipeliner, _ uint64) *redis.Cmd {
		if tidy && keep.age > 0 {
			p.XTrimMinIDApprox(ctx, s.key("log"), strconv.FormatInt(now.Add(-keep.age).UnixMilli(), 10), 0)
		}
		return p.Do(ctx, "HSET", s.key("meta"), beatField(s.node), now.UnixMilli())
	}})
}
