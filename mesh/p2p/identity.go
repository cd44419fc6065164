package p2p

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/libp2p/go-libp2p/core/crypto"

	"loco/checkpoint/atomicfile"
)

// maxIdentityBytes bounds what is read of an identity file; a key has 68 bytes.
const maxIdentityBytes = 4 << 10

// loadIdentity reads the key in path, or makes a new one and writes it there. With
// an empty path the key is new and kept nowhere.
//
// The file is libp2p's encoding of a private key: a protobuf of the key's type and
// the 64 bytes of an Ed25519 private key.
func loadIdentity(path string) (crypto.PrivKey, error) {
	if path == "" {
		key, _, err := crypto.GenerateEd25519Key(rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("p2p: make an identity: %w", err)
		}
		return key, nil
	}
	raw, err := readIdentity(path)
	if errors.Is(err, fs.ErrNotExist) {
		return createIdentity(path)
	}
	if err != nil {
		return nil, fmt.Errorf("p2p: read identity: %w", err)
	}
	key, err := crypto.UnmarshalPrivateKey(raw)
	if err == nil && key.Type() != crypto.Ed25519 {
		err = fmt.Errorf("key of type %v, want Ed25519", key.Type())
	}
	if err != nil {
		return nil, fmt.Errorf("p2p: identity file %s is damaged (%w): delete it to get a new identity", path, err)
	}
	return key, nil
}

func readIdentity(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxIdentityBytes))
}

// createIdentity makes a key and writes it so that the file is whole or absent.
func createIdentity(path string) (crypto.PrivKey, error) {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("p2p: make an identity: %w", err)
	}
	raw, err := crypto.MarshalPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("p2p: encode identity: %w", err)
	}
	if err := writePrivate(path, raw); err != nil {
		return nil, fmt.Errorf("p2p: write identity %s: %w", path, err)
	}
	return key, nil
}

// writePrivate replaces a file, readable by its owner alone, whole or not at all.
func writePrivate(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return atomicfile.WriteFile(path, data, 0o600)
}

// lifeSuffix is what the name of the file beside an identity ends with that holds the number of
// its last process.
const lifeSuffix = ".life"

// nextLife returns the number of a new process of the identity in path, larger than that of any
// before it even where the clock was set back, and keeps it beside the identity. now is the clock's.
func nextLife(path string, now uint64) (uint64, error) {
	if path == "" {
		return now, nil
	}
	path += lifeSuffix
	raw, err := readIdentity(path)
	var last uint64
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return 0, fmt.Errorf("p2p: read the last life of this identity: %w", err)
	default:
		if last, err = strconv.ParseUint(strings.TrimSpace(string(raw)), 10, 64); err != nil || last == math.MaxUint64 {
			return 0, fmt.Errorf("p2p: %s holds %.40q, want the number of this identity's last process: delete it if this machine's clock was never set back", path, raw)
		}
	}
	life := max(last+1, now)
	if err := writePrivate(path, strconv.AppendUint(nil, life, 10)); err != nil {
		return 0, fmt.Errorf("p2p: keep the life of this identity: %w", err)
	}
	return life, nil
}
