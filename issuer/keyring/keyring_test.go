package keyring_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/issuer/keyring"
	"github.com/tallygate/tallygate/issuer/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	typ      = "at+jwt"
	lifetime = time.Hour
	rotate   = 24 * time.Hour
)

// A harness is a Ring with a clock that the test sets.
type harness struct {
	t     testing.TB
	ring  *keyring.Ring
	log   bytes.Buffer
	clock time.Time
	state keyring.Store
	gauge prometheus.Gauge
	// shared says that other processes use the store too.
	shared bool
}

func (b *harness) options(signing config.Signing) keyring.Options {
	return keyring.Options{
		Store: b.state, Signing: signing, TokenLifetime: lifetime, Shared: b.shared, Reloaded: b.gauge,
		Log: slog.New(slog.NewJSONHandler(&b.log, nil)), Now: func() time.Time { return b.clock },
	}
}

func newHarness(t testing.TB, signing config.Signing) *harness {
	t.Helper()
	state, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = state.Close() })
	b := &harness{t: t, clock: time.Now(), state: state, gauge: prometheus.NewGauge(prometheus.GaugeOpts{Name: "good"})}
	b.reopen(signing)
	return b
}

func (b *harness) reopen(signing config.Signing) {
	b.t.Helper()
	var err error
	if b.ring, err = keyring.Open(b.options(signing)); err != nil {
		b.t.Fatal(err)
	}
}

func own(algorithm config.Algorithm) config.Signing {
	return config.Signing{Algorithm: algorithm, Rotate: rotate}
}

func (b *harness) sign() string {
	b.t.Helper()
	token, err := b.ring.Sign(typ, jwt.RegisteredClaims{ID: "x", ExpiresAt: jwt.NewNumericDate(time.Now().Add(time.Hour))})
	if err != nil {
		b.t.Fatal(err)
	}
	return token
}

func (b *harness) parse(token string) error {
	return b.ring.Parse(token, typ, &jwt.RegisteredClaims{})
}

// kids returns the kids of the published keys in order.
func (b *harness) kids() []string {
	b.t.Helper()
	document, _ := b.ring.Set()
	var set struct{ Keys []map[string]string }
	if err := json.Unmarshal(document, &set); err != nil {
		b.t.Fatal(err)
	}
	var kids []string
	for _, k := range set.Keys {
		for _, secret := range []string{"d", "p", "q", "dp", "dq", "qi", "k"} {
			if k[secret] != "" {
				b.t.Errorf("the key set has the private member %s", secret)
			}
		}
		if k["use"] != "sig" || len(k["kid"]) != 43 {
			b.t.Errorf("the key set has %v, want use sig and a kid of 43 characters", k)
		}
		kids = append(kids, k["kid"])
	}
	return kids
}

func (b *harness) states() string {
	var states []string
	for _, s := range b.ring.Keys() {
		states = append(states, s.State)
	}
	return strings.Join(states, " ")
}

// Each algorithm verifies its own tokens, and no key verifies another ring's.
func TestAlgorithms(t *testing.T) {
	if testing.Short() {
		t.Skip("not with -short")
	}
	for _, algorithm := range []config.Algorithm{config.ES256, config.PS256, config.RS256, config.EdDSA} {
		t.Run(string(algorithm), func(t *testing.T) {
			b := newHarness(t, own(algorithm))
			token := b.sign()
			if err := b.parse(token); err != nil {
				t.Error(err)
			}
			if err := b.ring.Parse(token, "JWT", &jwt.RegisteredClaims{}); err == nil {
				t.Error("Parse with another typ returned nil, want an error")
			}
			if err := b.parse(token[:len(token)-20] + "AAAAAAAA" + token[len(token)-12:]); err == nil {
				t.Error("Parse of an altered signature returned nil, want an error")
			}
			if b.states() != "active next" {
				t.Errorf("the keys are %s, want active next", b.states())
			}
			others := newHarness(t, own(algorithm))
			if err := others.parse(token); err == nil {
				t.Error("Parse of another ring's token returned nil, want an error")
			}
		})
	}
}

// RS256 and PS256 share a key type, but a key verifies its own algorithm only.
func TestAlgorithmIsTheKeys(t *testing.T) {
	private, file := writeRSA(t)
	b := newHarness(t, config.Signing{Algorithm: config.PS256, Files: []config.Path{file}})
	token := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.RegisteredClaims{ExpiresAt: jwt.NewNumericDate(time.Now().Add(time.Hour))})
	token.Header["typ"], token.Header["kid"] = typ, b.kids()[0]
	signed, err := token.SignedString(private)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.parse(signed); err == nil {
		t.Error("Parse of an RS256 signature by a PS256 key returned nil, want an error")
	}
	if err := b.parse(b.sign()); err != nil {
		t.Error(err)
	}
}

// T-AS-14: a key is published before it signs and until its last token has expired.
func TestRotation(t *testing.T) {
	b := newHarness(t, own(config.ES256))
	first, before := b.sign(), b.kids()
	_, version := b.ring.Set()
	b.clock = b.clock.Add(time.Minute)
	if err := b.ring.Rotate(); err != nil {
		t.Fatal(err)
	}
	after := b.kids()
	if len(after) != 3 || after[1] != before[1] || b.states() != "old active next" {
		t.Errorf("published %v before Rotate and %v after it, with states %s; want the next key published before", before, after, b.states())
	}
	if _, now := b.ring.Set(); now == version {
		t.Error("Set returned the same version after Rotate")
	}
	second := b.sign()
	b.reopen(own(config.ES256))
	if got := b.kids(); strings.Join(got, " ") != strings.Join(after, " ") {
		t.Errorf("after a restart the keys are %v, want %v", got, after)
	}
	if err := errors.Join(b.parse(first), b.parse(second)); err != nil {
		t.Error(err)
	}
	// The old key is removed an hour and ten minutes after its retirement, and not before.
	for _, step := range []struct {
		passed time.Duration
		keys   int
	}{{lifetime + 9*time.Minute, 3}, {time.Minute, 2}} {
		b.clock = b.clock.Add(step.passed)
		b.refresh()
		if got := b.kids(); len(got) != step.keys {
			t.Errorf("got %d keys, want %d", len(got), step.keys)
		}
	}
	if b.parse(first) == nil {
		t.Error("Parse of a token by a removed key returned nil, want an error")
	}
}

// refresh refreshes the keys now.
func (b *harness) refresh() {
	b.t.Helper()
	if err := b.ring.Refresh(); err != nil {
		b.t.Error(err)
	}
}

// Rotation is due by the activation of the active key, also across restarts. A clock that is set
// back causes no rotation.
func TestSchedule(t *testing.T) {
	b := newHarness(t, own(config.EdDSA))
	before := b.kids()
	b.clock = b.clock.Add(rotate - time.Second)
	b.refresh()
	if got := b.kids(); len(got) != 2 {
		t.Errorf("the keys are %v, want no rotation yet", got)
	}
	b.clock = b.clock.Add(time.Second)
	b.refresh()
	if got := b.kids(); len(got) != 3 || got[1] != before[1] {
		t.Errorf("the keys are %v, want a rotation", got)
	}
	b.clock = b.clock.Add(10 * rotate)
	b.reopen(own(config.EdDSA))
	if got := b.ring.Keys(); got[len(got)-2].State != "active" || len(got) != 3 {
		t.Errorf("the keys are %+v, want the overdue rotation at the start", got)
	}
	b.clock = b.clock.Add(-100 * rotate)
	b.reopen(own(config.EdDSA))
	if err := b.parse(b.sign()); err != nil {
		t.Error(err)
	}
}

// A change of the algorithm generates new keys; tokens of the old keys stay valid.
func TestOtherAlgorithm(t *testing.T) {
	b := newHarness(t, own(config.ES256))
	token := b.sign()
	b.reopen(own(config.EdDSA))
	if err := errors.Join(b.parse(token), b.parse(b.sign())); err != nil {
		t.Error(err)
	}
	if b.states() != "old old active next" {
		t.Errorf("the keys are %s, want old old active next", b.states())
	}
}

// A failing store leaves the keys unchanged.
func TestRotationThatFails(t *testing.T) {
	b := newHarness(t, own(config.ES256))
	before := strings.Join(b.kids(), " ")
	if err := b.state.(*store.File).Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.ring.Rotate(); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Rotate returned %v, want the error of the store", err)
	}
	if after := strings.Join(b.kids(), " "); after != before || b.parse(b.sign()) != nil {
		t.Errorf("the keys are %s, want %s as before", after, before)
	}
}

// A fullDisk is a store that stores no keys while err is set.
type fullDisk struct {
	keyring.Store
	err  error // the error of each attempt
	left int   // attempts until there is free space
}

func (d *fullDisk) ReplaceKeys(previous, keys []store.Key) error {
	if d.left--; d.left >= 0 {
		return d.err
	}
	return d.Store.ReplaceKeys(previous, keys)
}

// An overdue rotation waits while the disk is full: the current keys sign and are published, and
// a later refresh rotates them. Missing keys and a store that may have changed are errors.
func TestOverdueOnFullDisk(t *testing.T) {
	full := fmt.Errorf("writing: %w", store.ErrUnavailable)
	b := newHarness(t, own(config.ES256))
	before, disk := b.kids(), b.state
	token := b.sign()
	b.clock = b.clock.Add(2 * rotate)
	b.state = &fullDisk{disk, full, 2}
	b.reopen(own(config.ES256))
	if got := b.kids(); !slices.Equal(got, before) || b.states() != "active next" {
		t.Errorf("the keys were %v and are %v, with states %s", before, got, b.states())
	}
	if err := errors.Join(b.parse(token), b.parse(b.sign())); err != nil {
		t.Error(err)
	}
	if got := b.reported(); got != (report{1, 0, 0}) {
		t.Errorf("got %+v, want one warning and the gauge at 0", got)
	}
	if err := b.ring.Refresh(); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Refresh on a full disk returned %v, want ErrUnavailable", err)
	}
	b.refresh()
	if got := b.kids(); b.states() != "old active next" || got[1] != before[1] || b.parse(token) != nil {
		t.Errorf("the keys were %v and are %v, with states %s", before, got, b.states())
	}

	b.clock = b.clock.Add(2 * rotate)
	empty := must(store.Open(t.TempDir()))
	defer func() { _ = empty.Close() }()
	for _, state := range []*fullDisk{{disk, errors.New("damaged"), 1}, {empty, full, 1}} {
		b.state = state
		if _, err := keyring.Open(b.options(own(config.ES256))); !errors.Is(err, state.err) {
			t.Errorf("Open returned %v, want the error of the store, %v", err, state.err)
		}
	}
}

// Concurrent signing, reading and rotation: every token is valid at once.
func TestConcurrentUse(t *testing.T) {
	b := newHarness(t, own(config.EdDSA))
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 100 {
				token, err := b.ring.Sign(typ, jwt.RegisteredClaims{ExpiresAt: jwt.NewNumericDate(time.Now().Add(time.Hour))})
				if err == nil {
					err = b.parse(token)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 10 {
		if err := b.ring.Rotate(); err != nil {
			t.Error(err)
		}
	}
	group.Wait()
}

func writePEM(t testing.TB, kind string, der []byte) config.Path {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return config.Path(path)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func pkcs8(key any) []byte { return must(x509.MarshalPKCS8PrivateKey(key)) }

func writeRSA(t testing.TB) (*rsa.PrivateKey, config.Path) {
	private := must(rsa.GenerateKey(rand.Reader, 2048))
	return private, writePEM(t, "PRIVATE KEY", pkcs8(private))
}

// Key files are accepted in every form that openssl writes. An unsuitable file is refused by
// name, and no error quotes its content.
func TestFiles(t *testing.T) {
	p256 := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	p384 := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	rsa2048, rsaFile := writeRSA(t)
	tests := []struct {
		name      string
		algorithm config.Algorithm
		file      config.Path
		want      string
	}{
		{"PKCS #8", config.ES256, writePEM(t, "PRIVATE KEY", pkcs8(p256)), ""},
		{"SEC 1", config.ES256, writePEM(t, "EC PRIVATE KEY", must(x509.MarshalECPrivateKey(p256))), ""},
		{"PKCS #1", config.RS256, writePEM(t, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsa2048)), ""},
		{"Ed25519", config.EdDSA, writePEM(t, "PRIVATE KEY", pkcs8(ed)), ""},
		{"other curve", config.ES256, writePEM(t, "PRIVATE KEY", pkcs8(p384)), "P-256"},
		{"RSA for ES256", config.ES256, rsaFile, "P-256"},
		{"EC for PS256", config.PS256, writePEM(t, "PRIVATE KEY", pkcs8(p256)), "RSA"},
		{"EC for EdDSA", config.EdDSA, writePEM(t, "PRIVATE KEY", pkcs8(p256)), "Ed25519"},
		{"encrypted", config.ES256, writePEM(t, "ENCRYPTED PRIVATE KEY", []byte{1}), "encrypted"},
		{"garbled", config.ES256, writePEM(t, "PRIVATE KEY", []byte("secret")), "does not parse"},
		{"no key", config.ES256, writePEM(t, "CERTIFICATE", []byte("x")), "no private key"},
		{"no file", config.ES256, "/nonexistent/key.pem", "/nonexistent/key.pem"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := keyring.Check(config.Signing{Algorithm: test.algorithm, Files: []config.Path{test.file}})
			if test.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), string(test.file)) || strings.Contains(err.Error(), "secret") {
				t.Errorf("Open returned %v, want %q and no content", err, test.want)
			}
		})
	}
	twice := []config.Path{rsaFile, rsaFile}
	if err := keyring.Check(config.Signing{Algorithm: config.RS256, Files: twice}); err == nil {
		t.Error("Check with one key in two files returned nil, want an error")
	}
}

// Changed files are reloaded, all or nothing. A removed key verifies until its last token has
// expired.
func TestFilesChange(t *testing.T) {
	one, two := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)), must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	file := writePEM(t, "PRIVATE KEY", pkcs8(one))
	b := newHarness(t, config.Signing{Algorithm: config.ES256, Files: []config.Path{file}})
	token := b.sign()
	if err := b.ring.Rotate(); err == nil {
		t.Error("Rotate with key files returned nil, want an error")
	}
	write := func(content []byte) {
		t.Helper()
		if err := os.WriteFile(string(file), content, 0o600); err != nil {
			t.Fatal(err)
		}
		b.look()
	}
	write([]byte("half a f"))
	if len(b.kids()) != 1 || b.parse(b.sign()) != nil || !strings.Contains(b.log.String(), "not refreshed") {
		t.Errorf("after a refresh with a broken file the keys have changed, or the log has no warning: %s", b.log.String())
	}
	write(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8(two)}))
	if err := errors.Join(b.parse(token), b.parse(b.sign())); err != nil || len(b.kids()) != 2 {
		t.Errorf("Parse returned %v with %d keys, want nil", err, len(b.kids()))
	}
	b.clock = b.clock.Add(lifetime + 11*time.Minute)
	b.refresh()
	if b.parse(token) == nil || len(b.kids()) != 1 {
		t.Error("Parse of a token by the removed key returned nil, want an error")
	}
}

// A key that signs without having been published before causes a warning. A key that was second
// before does not, and there is no warning at the start.
func TestUnpublishedFirstFile(t *testing.T) {
	var keys [4][]byte
	for i := range keys {
		keys[i] = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8(must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)))})
	}
	files := []config.Path{writePEM(t, "", nil), writePEM(t, "", nil)}
	write := func(first, second int) {
		t.Helper()
		if err := errors.Join(os.WriteFile(string(files[0]), keys[first], 0o600), os.WriteFile(string(files[1]), keys[second], 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	write(0, 1)
	b := newHarness(t, config.Signing{Algorithm: config.ES256, Files: files})
	for _, step := range []struct {
		name          string
		first, second int
		warns         bool
	}{
		{"as at the start", 0, 1, false},
		{"the second comes first", 1, 0, false},
		{"a new one comes second", 1, 2, false},
		{"and then first", 2, 1, false},
		{"a removed key with valid tokens", 0, 2, false},
		{"a new one comes first", 3, 0, true},
		{"and stays", 3, 1, false},
	} {
		write(step.first, step.second)
		b.refresh()
		if warns := strings.Contains(b.log.String(), "without having been published before"); warns != step.warns {
			t.Errorf("%s: warned is %t, want %t", step.name, warns, step.warns)
		}
		b.log.Reset()
	}
}

// look waits until Run has refreshed once.
func (b *harness) look() { b.run(func() { time.Sleep(11 * time.Second) }) }

// run calls test while Run runs, in a synctest bubble.
func (b *harness) run(test func()) {
	synctest.Test(b.t.(*testing.T), func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- b.ring.Run(ctx) }()
		test()
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// A key file that other users may read causes a warning.
func TestOpenKeyFile(t *testing.T) {
	file := writePEM(t, "PRIVATE KEY", pkcs8(must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))))
	if err := os.Chmod(string(file), 0o644); err != nil {
		t.Fatal(err)
	}
	b := newHarness(t, config.Signing{Algorithm: config.ES256, Files: []config.Path{file}})
	if !strings.Contains(b.log.String(), "every user of the machine can access") {
		t.Errorf("the log is %s, want a warning about the file mode", b.log.String())
	}
}

// No file makes the reader panic, and an accepted key signs.
func FuzzKeyFile(f *testing.F) {
	good := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8(must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)))})
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----"))
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(t.TempDir(), "key.pem")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		signing := config.Signing{Algorithm: config.ES256, Files: []config.Path{config.Path(path)}}
		if keyring.Check(signing) != nil {
			return
		}
		ring, err := keyring.Open(keyring.Options{Signing: signing, TokenLifetime: lifetime, Reloaded: prometheus.NewGauge(prometheus.GaugeOpts{Name: "good"}), Log: slog.New(slog.DiscardHandler), Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ring.Sign(typ, jwt.MapClaims{}); err != nil {
			t.Error(err)
		}
	})
}

func BenchmarkSign(b *testing.B) {
	for _, algorithm := range []config.Algorithm{config.ES256, config.EdDSA, config.PS256, config.RS256} {
		b.Run(string(algorithm), func(b *testing.B) {
			ring := newHarness(b, own(algorithm)).ring
			claims := jwt.MapClaims{"iss": "https://as.example.com", "sub": "northwind-ledger", "exp": 1}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ring.Sign(typ, claims); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
