package checkpoint

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"loco/checkpoint/atomicfile"
)

const (
	tmpfsPrefix   = "loco-"
	ownerName     = "owner"
	ownerBytesMax = 8 << 10
	tokenBytes    = 8
)

// Tmpfs is a [Store] in a file system in memory, such as /dev/shm, which outlives the
// process. It holds copies for one [Disk], whose lock its own lock needs.
//
// The copies are in ROOT/loco-PATH-TOKEN. PATH is a hash of the disk's folder. TOKEN is
// random and kept in the disk's lock file: when a user deletes that folder and starts a
// new run in its place, the old run's copies must not come back to life. A file named
// owner holds the path of the disk's folder, so that the next writer on the machine can
// give back the memory of a run that was killed and deleted.
//
// Half of the free room is left to others, because what a tmpfs holds is memory that
// training may need.
type Tmpfs struct {
	root  string
	disk  *Disk
	files fileSystem
	held  *Disk // the folder, while it is locked
}

// NewTmpfs returns the store below root that holds copies for disk. It touches nothing.
func NewTmpfs(root string, disk *Disk) *Tmpfs {
	return &Tmpfs{root: root, disk: disk, files: disk.files}
}

// Lock implements [Store]. It fails where root is not in memory, or when the disk is not
// locked. unlock gives the memory back unless it holds a checkpoint.
func (t *Tmpfs) Lock(ctx context.Context) (unlock func() error, err error) {
	if !isMemory(t.root) {
		return nil, fmt.Errorf("checkpoint: %s is not a file system in memory", t.root)
	}
	if t.disk.held == nil {
		return nil, fmt.Errorf("checkpoint: %s is not locked, and the copies in memory belong to it", t.disk.dir)
	}
	text, err := token(t.disk.held)
	if err != nil {
		return nil, err
	}
	full, err := filepath.Abs(t.disk.dir)
	if err != nil {
		return nil, err
	}
	path := tmpfsFolder(t.root, full, text)
	if err := t.removeOrphans(path); err != nil {
		return nil, err
	}
	if err := t.files.MakeDirs(path); err != nil {
		return nil, err
	}
	if !ownedByMe(path) {
		return nil, fmt.Errorf("checkpoint: %s is not this user's own folder", path)
	}
	folder := t.folder(path)
	if err := folder.sweep(); err != nil {
		return nil, err
	}
	if err := atomicfile.WriteFile(filepath.Join(path, ownerName), []byte(full), 0o600); err != nil {
		return nil, err
	}
	t.held = folder
	return func() error {
		t.held = nil
		left, err := folder.List(ctx)
		if err == nil && len(left) == 0 {
			err = t.files.RemoveAll(path)
		}
		return err
	}, nil
}

func (t *Tmpfs) folder(path string) *Disk { return &Disk{dir: path, files: t.files, share: 2} }

// current is the folder, nil when there is none of this user's.
func (t *Tmpfs) current() *Disk {
	if t.held != nil {
		return t.held
	}
	full, err := filepath.Abs(t.disk.dir)
	if err != nil {
		return nil
	}
	text, err := tokenOf(full)
	if err != nil || text == "" {
		return nil
	}
	if path := tmpfsFolder(t.root, full, text); ownedByMe(path) {
		return t.folder(path)
	}
	return nil
}

// Put implements [Store].
func (t *Tmpfs) Put(ctx context.Context, round uint64, size int64, fill func(Add) error) error {
	if t.held == nil {
		return errors.New("checkpoint: the copies in memory are not locked")
	}
	return t.held.Put(ctx, round, size, fill)
}

// Open implements [Store].
func (t *Tmpfs) Open(ctx context.Context, round uint64, name string) (io.ReadCloser, int64, error) {
	if d := t.current(); d != nil {
		return d.Open(ctx, round, name)
	}
	return nil, 0, fmt.Errorf("checkpoint: %s: %w", t.Where(round), fs.ErrNotExist)
}

// List implements [Store].
func (t *Tmpfs) List(ctx context.Context) ([]uint64, error) {
	if d := t.current(); d != nil {
		return d.List(ctx)
	}
	return nil, nil
}

// Remove implements [Store].
func (t *Tmpfs) Remove(ctx context.Context, round uint64) error {
	if t.held == nil {
		return errors.New("checkpoint: the copies in memory are not locked")
	}
	return t.held.Remove(ctx, round)
}

// Where implements [Store].
func (t *Tmpfs) Where(round uint64) string {
	if d := t.current(); d != nil {
		return d.Where(round)
	}
	return filepath.Join(t.root, RoundName(round))
}

// tmpfsFolder is the folder of the copies of a disk whose path is full.
func tmpfsFolder(root, full, token string) string {
	sum := sha256.Sum256([]byte(full))
	return filepath.Join(root, tmpfsPrefix+hex.EncodeToString(sum[:8])+"-"+token)
}

// tokenOf returns the token of a disk's folder, "" when its lock file holds none.
func tokenOf(dir string) (string, error) {
	path := filepath.Join(dir, lockName)
	if _, err := os.Lstat(path); err != nil {
		return "", err
	}
	f, _, err := openRegular(path)
	if err != nil {
		return "", fmt.Errorf("checkpoint: %s holds no token: %v", path, err) // there, so not fs.ErrNotExist
	}
	defer f.Close()
	return readToken(f), nil
}

// readToken returns the token in a lock file, "" when there is none.
func readToken(f io.Reader) string {
	text := make([]byte, 2*tokenBytes)
	if _, err := io.ReadFull(f, text); err != nil || !isToken(string(text)) {
		return ""
	}
	return string(text)
}

func isToken(text string) bool {
	raw, err := hex.DecodeString(text)
	return err == nil && len(raw) == tokenBytes
}

// token returns the token in the lock file that this process holds, a new one if there is
// none.
func token(held *os.File) (string, error) {
	if text := readToken(io.NewSectionReader(held, 0, 2*tokenBytes)); text != "" {
		return text, nil
	}
	var raw [tokenBytes]byte
	rand.Read(raw[:]) // never fails
	text := hex.EncodeToString(raw[:])
	_, err := held.WriteAt([]byte(text), 0)
	return text, err
}

// removeOrphans removes this user's other folders whose disk's folder is gone, or was
// deleted and made again.
func (t *Tmpfs) removeOrphans(own string) error {
	items, err := t.files.ReadDir(t.root)
	if err != nil {
		return err
	}
	for _, item := range items {
		path := filepath.Join(t.root, item.Name())
		if path == own || !strings.HasPrefix(item.Name(), tmpfsPrefix) || !ownedByMe(path) || !isOrphan(path) {
			continue
		}
		if err := t.files.RemoveAll(path); err != nil {
			return err
		}
	}
	return nil
}

// isOrphan reports whether path is a folder of this package's whose disk's folder no
// longer has its token. When in doubt it is not: its name must be the one that its owner
// file calls for, and the lock file must be gone or hold another token.
func isOrphan(path string) bool {
	f, size, err := openRegular(filepath.Join(path, ownerName))
	if err != nil {
		return false
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, ownerBytesMax))
	if err != nil || size > ownerBytesMax {
		return false
	}
	dir := string(text)
	root, name := filepath.Dir(path), filepath.Base(path)
	_, own, _ := strings.Cut(strings.TrimPrefix(name, tmpfsPrefix), "-")
	if !filepath.IsAbs(dir) || !isToken(own) || path != tmpfsFolder(root, dir, own) {
		return false
	}
	now, err := tokenOf(dir)
	return missing(err) || err == nil && now != "" && now != own
}
