package process

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// workerNumberMax bounds worker numbers that are tried in one folder.
const workerNumberMax = 4096

const (
	lockTries = 5
	lockPause = 20 * time.Millisecond
)

// errTaken says that a worker's folder is in use by another process.
var errTaken = errors.New("in use")

// seat is a worker's folder, held by this process alone.
type seat struct {
	number int
	dir    string
	lock   *os.File
}

// takeSeat takes worker number's folder.
func (s *Spec) takeSeat(number int) (*seat, error) {
	dir := s.workerDir(number)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the worker's folder: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock the worker's folder: %w", err)
	}
	err = tryLock(f)
	for range lockTries { // another process may be looking whether it is held
		if err == nil {
			break
		}
		time.Sleep(lockPause)
		err = tryLock(f)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("worker %d runs already in %s: %w; stop it, or start another with a different --worker", number, dir, errTaken)
	}
	if err := os.Remove(filepath.Join(dir, addressFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(err, f.Close()) // a killed process left it
	}
	return &seat{number, dir, f}, nil
}

// Occupied says whether a process runs in a worker's folder.
func Occupied(dir string) bool {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	return tryLock(f) != nil
}

// takeFreeSeat takes the lowest folder from number on that no process holds.
func (s *Spec) takeFreeSeat(number int) (*seat, error) {
	for ; number < workerNumberMax; number++ {
		seat, err := s.takeSeat(number)
		if !errors.Is(err, errTaken) {
			return seat, err
		}
	}
	return nil, fmt.Errorf("%d workers run already in %s", workerNumberMax, s.dir)
}

// release gives the folder up; what is in it stays.
func (s *seat) release() error { return s.lock.Close() }

// path is the name of a file in the worker's folder.
func (s *seat) path(name string) string { return filepath.Join(s.dir, name) }

// openLog opens the worker's log: everything as JSON to its file, warnings and
// errors to warn, too.
func (s *seat) openLog(warn io.Writer) (*slog.Logger, func() error, error) {
	f, err := os.OpenFile(s.path(LogFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, nil, fmt.Errorf("open the log: %w", err)
	}
	all := slog.NewJSONHandler(f, &slog.HandlerOptions{Level: slog.LevelInfo})
	if warn == nil {
		return slog.New(all), f.Close, nil
	}
	loud := slog.NewTextHandler(warn, &slog.HandlerOptions{Level: slog.LevelWarn, ReplaceAttr: dropTime})
	return slog.New(slog.NewMultiHandler(all, loud)), f.Close, nil
}

func dropTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}
