package p2p

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"
)

func TestIdentityKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "identity")
	made, err := loadIdentity(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := loadIdentity(path)
	if err != nil || !again.Equals(made) {
		t.Errorf("read back another key, %v", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode())
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("%d files beside the identity", len(left)-1)
	}
	other, err := loadIdentity("")
	if err != nil || other.Equals(made) {
		t.Errorf("no path: the same key again, or %v", err)
	}
}

func TestIdentityDamaged(t *testing.T) {
	key, _, err := crypto.GenerateSecp256k1Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := crypto.MarshalPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"empty": nil, "text": []byte("not a key"), "other type": foreign, "huge": make([]byte, 1<<20),
	} {
		path := filepath.Join(t.TempDir(), "identity")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := loadIdentity(path)
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "delete it to get a new identity") {
			t.Errorf("%s: %v, want an error with the path and the way out", name, err)
		}
		if now, _ := os.ReadFile(path); string(now) != string(content) {
			t.Errorf("%s: the damaged file was changed", name)
		}
	}
}

// Each process of an identity has a higher life than the last, wherever the clock is.
func TestLives(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "identity")
	for _, c := range []struct{ clock, want uint64 }{{100, 100}, {200, 200}, {50, 201}, {50, 202}, {300, 300}, {300, 301}} {
		if got, err := nextLife(path, c.clock); got != c.want || err != nil {
			t.Errorf("at %d: life %d, %v; want %d", c.clock, got, err, c.want)
		}
	}
	if got, err := nextLife("", 7); got != 7 || err != nil {
		t.Errorf("without a file: life %d, %v; want 7", got, err)
	}
	for _, content := range []string{"", "x", "-1", "18446744073709551615"} {
		if err := os.WriteFile(path+lifeSuffix, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := nextLife(path, 7); err == nil || !strings.Contains(err.Error(), path+lifeSuffix) || !strings.Contains(err.Error(), "delete it") {
			t.Errorf("%q: %v, want an error with the path and the way out", content, err)
		}
	}
}

func TestIdentityUnreadable(t *testing.T) {
	path := t.TempDir() // a folder
	if _, err := loadIdentity(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("%v, want an error that names %s", err, path)
	}
}
