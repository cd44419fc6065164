package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// A Store holds the files of checkpoints, by round.
//
// Any number of processes may read. One writes: it holds the store's lock. A reader that
// meets a Put or a Remove of the round that it reads may find files missing or of two
// checkpoints; the hashes tell it.
type Store interface {
	// Lock makes the caller the only writer until unlock, and removes what writers left
	// that died: nothing of it was visible, except that a checkpoint whose replacement
	// they had not finished is visible again. Put and Remove need the lock. The end of
	// the process unlocks.
	Lock(ctx context.Context) (unlock func() error, err error)

	// Put stores the files that fill adds, in their order, as the checkpoint of a round,
	// in the place of one that is there. They become visible together, and durable as far
	// as the store can, before Put returns nil. After an error, that of fill included, the
	// round holds all of the old files or all of the new ones. size is an upper bound of
	// the bytes; a store that has no room for them returns an error that wraps [ErrNoRoom].
	Put(ctx context.Context, round uint64, size int64, fill func(Add) error) error

	// Open returns a file of a checkpoint and its size in bytes. A file or a round that is
	// not there is an error that wraps fs.ErrNotExist. Opening is cheap: content is read
	// when the caller reads it.
	Open(ctx context.Context, round uint64, name string) (content io.ReadCloser, size int64, err error)

	// List returns the rounds of the complete checkpoints in increasing order. What it did
	// not write itself it neither lists nor changes.
	List(ctx context.Context) ([]uint64, error)

	// Remove removes a checkpoint. It is invisible before its first file goes. The removal
	// of a round that is not there is no error.
	Remove(ctx context.Context, round uint64) error

	// Where says for people where the checkpoint of a round is or would be: a path, or a
	// URL.
	Where(round uint64) string
}

// Add adds a file to the checkpoint that is being put. content writes the file from its
// beginning to its end; the store does not hold all of it in memory. The name must pass
// [CheckName] and be a new one.
type Add func(name string, content func(io.Writer) error) error

// ErrNoRoom is what [Store.Put] wraps when the checkpoint does not fit.
var ErrNoRoom = errors.New("no room")

const nameCharsMax = 100

// CheckName refuses the names of files that some store or system could misunderstand: a
// name has 1 to 100 of a-z, 0-9, '.', '_' and '-', and begins and ends with a letter or a
// digit.
func CheckName(name string) error {
	odd := func(r rune) bool { return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789._-", r) }
	if name == "" || len(name) > nameCharsMax || strings.ContainsFunc(name, odd) || strings.Trim(name, "._-") != name {
		return fmt.Errorf("checkpoint: file name %.120q: must be 1 to %d of a-z, 0-9, '.', '_', '-', and begin and end with a letter or a digit", name, nameCharsMax)
	}
	return nil
}

// RoundName is the name of a round's checkpoint in every store.
func RoundName(round uint64) string { return fmt.Sprintf("round-%08d", round) }

// ParseRoundName is RoundName backwards. Another text of the same number is refused.
func ParseRoundName(name string) (round uint64, ok bool) {
	digits, ok := strings.CutPrefix(name, "round-")
	if !ok {
		return 0, false
	}
	round, err := strconv.ParseUint(digits, 10, 64)
	return round, err == nil && RoundName(round) == name
}
