package checkpoint

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The copy in memory is in TMPFS/loco-PATH-TOKEN/round-N. PATH is a hash of the durable
// folder's path. TOKEN is random and kept in the durable folder's lock file: when a user
// deletes that folder and starts a new run in its place, the old run's copy must not
// come back to life. A file named owner in the folder holds the durable folder's path,
// so that the next writer on the machine can give back the memory of a run that was
// killed and deleted.

const (
	lockName      = ".lock"
	ownerName     = "owner"
	ownerBytesMax = 8 << 10
	tokenBytes    = 8
)

// Roots are the folders to look for checkpoints in, for [LoadLatest]: the tmpfs
// folder that belongs to dir, when it is there and this user's own, and dir.
func Roots(dir, tmpfs string) []string {
	if tmpfs == "" {
		return []string{dir}
	}
	if shm := tmpfsFolder(dir, tmpfs, tokenOf(dir)); shm != "" && ownedByMe(shm) {
		return []string{shm, dir}
	}
	return []string{dir}
}

// tokenOf returns the token of a durable folder, "" when it has none or is gone.
func tokenOf(dir string) string {
	f, _, err := openRegular(filepath.Join(dir, lockName))
	if err != nil {
		return ""
	}
	defer f.Close()
	return readToken(f)
}

// tmpfsFolder is "" when there is none: no token yet, or a path that has no name.
func tmpfsFolder(dir, tmpfs, token string) string {
	full, err := filepath.Abs(dir)
	if err != nil || token == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(full))
	return filepath.Join(tmpfs, "loco-"+hex.EncodeToString(sum[:8])+"-"+token)
}

// readToken returns the token in a lock file, "" when there is none.
func readToken(f io.Reader) string {
	text := make([]byte, 2*tokenBytes)
	if _, err := io.ReadFull(f, text); err != nil {
		return ""
	}
	if _, err := hex.DecodeString(string(text)); err != nil {
		return ""
	}
	return string(text)
}

// token returns the token in the lock file that this process holds, a new one if
// there is none.
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

// openTmpfs prepares the tmpfs folder, or does without one and says why.
func (w *Writer) openTmpfs() {
	if w.cfg.Tmpfs == "" {
		return
	}
	if !isMemory(w.cfg.Tmpfs) {
		w.skip(0, w.cfg.Tmpfs, errors.New("is not a file system in memory"))
		return
	}
	text, err := token(w.lockFile)
	shm := tmpfsFolder(w.cfg.Dir, w.cfg.Tmpfs, text)
	if err == nil {
		err = w.removeOrphans(shm)
	}
	if err == nil {
		err = w.fs.MakeDirs(shm)
	}
	if err == nil && !ownedByMe(shm) {
		err = errors.New("is not this user's own folder")
	}
	if err == nil {
		err = sweep(w.fs, shm)
	}
	if err == nil {
		err = writeOwner(shm, w.cfg.Dir)
	}
	if err != nil {
		w.skip(0, shm, err)
		return
	}
	w.shm = shm
}

func writeOwner(shm, dir string) error {
	full, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(shm, ownerName), []byte(full), 0o600)
}

// removeOrphans removes this user's folders whose durable folder is gone, or was
// deleted and made again.
func (w *Writer) removeOrphans(shm string) error {
	items, err := os.ReadDir(w.cfg.Tmpfs)
	if err != nil {
		return err
	}
	for _, item := range items {
		path := filepath.Join(w.cfg.Tmpfs, item.Name())
		if path == shm || !strings.HasPrefix(item.Name(), "loco-") || !ownedByMe(path) || !isOrphan(path) {
			continue
		}
		if err := w.fs.RemoveAll(path); err != nil {
			return err
		}
	}
	return nil
}

// isOrphan reports whether path is a folder of this package's whose durable folder no
// longer has its token. When in doubt it is not.
func isOrphan(path string) bool {
	f, _, err := openRegular(filepath.Join(path, ownerName))
	if err != nil {
		return false
	}
	defer f.Close()
	dir, err := io.ReadAll(io.LimitReader(f, ownerBytesMax))
	if err != nil || !filepath.IsAbs(string(dir)) {
		return false
	}
	return path != tmpfsFolder(string(dir), filepath.Dir(path), tokenOf(string(dir)))
}

func (w *Writer) skip(round uint64, path string, err error) {
	w.cfg.Log.Info("checkpoint: without the copy in memory", "tmpfs", path, "round", round, "reason", err)
	w.cfg.Observe(Event{Stage: Skipped, Round: round, Path: path, Err: err})
}

// writeTmpfs writes the copy in memory and keeps only that one: memory is dear, and
// the disk has the older ones.
func (w *Writer) writeTmpfs(s *State) {
	start := time.Now()
	err := w.makeRoom(s)
	var path string
	var bytes int64
	if err == nil {
		path, bytes, err = publish(w.fs, w.shm, s)
	}
	if err == nil {
		err = w.dropCopies(func(e Entry) bool { return e.Path != path })
	}
	if err != nil {
		w.skip(s.Round, w.shm, err)
		return
	}
	w.cfg.Observe(Event{Stage: Tmpfs, Round: s.Round, Path: path, Seconds: time.Since(start).Seconds(), Bytes: bytes})
}

// makeRoom removes older copies that the disk has when the new one does not fit beside
// them. Half of the room is left to others: what a tmpfs holds is memory that
// training may need.
func (w *Writer) makeRoom(s *State) error {
	need, err := sizeOf(s)
	if err != nil {
		return err
	}
	free, known := w.fs.Free(w.shm)
	if known && free/2 < uint64(need) {
		if err := w.dropCopies(w.isDurable); err != nil {
			return err
		}
		free, known = w.fs.Free(w.shm)
	}
	if known && free/2 < uint64(need) {
		return fmt.Errorf("no room: %d bytes needed, half of the %d free may be used", need, free)
	}
	return nil
}

func (w *Writer) isDurable(e Entry) bool {
	_, err := readManifest(filepath.Join(w.cfg.Dir, folderName(e.Round)))
	return err == nil
}

// dropCopies removes the copies in memory that drop picks.
func (w *Writer) dropCopies(drop func(Entry) bool) error {
	copies, err := List(w.shm)
	if err != nil {
		return err
	}
	for _, e := range copies {
		if !drop(e) {
			continue
		}
		if err := discard(w.fs, w.shm, e.Path); err != nil {
			return err
		}
	}
	return nil
}

// closeTmpfs gives the memory back. A copy that the disk does not have stays: it is the
// only one.
func (w *Writer) closeTmpfs() {
	if w.shm == "" {
		return
	}
	err := w.dropCopies(w.isDurable)
	if err == nil {
		var left []Entry
		if left, err = List(w.shm); err == nil && len(left) == 0 {
			err = w.fs.RemoveAll(w.shm)
		}
	}
	if err != nil {
		w.cfg.Log.Warn("checkpoint: copies in memory stay", "tmpfs", w.shm, "reason", err)
	}
}
