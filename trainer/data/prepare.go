package data

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Options say what to train on. Dir and Progress do not enter the digest.
type Options struct {
	// Source is a folder or file of text; "" and "go" mean the source of the Go
	// standard library on this machine.
	Source string
	// Dir is where shards are written; it is made if it is not there.
	Dir string
	// Heldout is the share of files, by the hash of their path, that is kept out of
	// training: above 0, at most 0.5. Where that would leave a split without a file,
	// the end of every file is held out instead.
	Heldout float64
	// Extensions, with their dot, select files of a folder; none means every text
	// file, for the Go source ".go".
	Extensions []string
	// MaxBytes bounds the corpus: of a folder, files are left out by the hash of their
	// path until the rest is no larger; of a single file, its start is taken. 0 means
	// no bound.
	MaxBytes int64
	// Tokenizer names what turns text into tokens, one of TokenizerNames.
	Tokenizer string
	// Progress, where it is set, is called with the bytes that have been read and with
	// those of the whole source.
	Progress func(read, total int64)
}

// Split is one shard of a set and what went into it.
type Split struct {
	Path   string `json:"path"`
	Files  int    `json:"files"`
	Bytes  int64  `json:"bytes"`
	Tokens int64  `json:"tokens"` // separators included
}

// Open opens the split's shard.
func (s Split) Open() (*Shard, error) { return Open(s.Path) }

// Set is a prepared corpus.
type Set struct {
	// Digest is the SHA-256 of the options and of every file's name, length and
	// content, in hexadecimal: equal on every machine that has the same text,
	// whatever its paths and times.
	Digest    string  `json:"digest"`
	Tokenizer string  `json:"tokenizer"`
	Vocab     int     `json:"vocab"`
	Train     Split   `json:"train"`
	Heldout   Split   `json:"heldout"`
	Skipped   Skipped `json:"skipped"`
	Reused    bool    `json:"reused"` // found prepared
}

// digestChars is how much of the digest is in a shard's name.
const digestChars = 32

func (o *Options) validate() (Tokenizer, error) {
	if o.Dir == "" {
		return nil, errors.New("data: no folder for shards was named")
	}
	if !(o.Heldout > 0 && o.Heldout <= 0.5) {
		return nil, fmt.Errorf("data: heldout = %v, allowed is a share above 0 and up to 0.5", o.Heldout)
	}
	if o.MaxBytes < 0 {
		return nil, fmt.Errorf("data: max_bytes = %d, allowed are 0 (no bound) and more", o.MaxBytes)
	}
	for _, e := range o.Extensions {
		if !strings.HasPrefix(e, ".") || strings.ContainsAny(e, "/\\\n") {
			return nil, fmt.Errorf("data: extension %q, it must start with a dot: \".go\"", e)
		}
	}
	return TokenizerByName(o.Tokenizer)
}

// Prepare writes the shards of a source, or finds them written. It stops when ctx
// ends. Several processes may prepare one folder at once.
func Prepare(ctx context.Context, o Options) (Set, error) {
	tokenizer, err := o.validate()
	if err != nil {
		return Set{}, err
	}
	root, extensions, err := findSource(ctx, o.Source, o.Extensions)
	if err != nil {
		return Set{}, err
	}
	o.Extensions = slices.Sorted(slices.Values(extensions))
	t, err := walk(ctx, root, o.Extensions)
	if err != nil {
		return Set{}, err
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return Set{}, fmt.Errorf("data: %w", err)
	}
	manifest := filepath.Join(o.Dir, t.key(&o, tokenizer)+".json")
	if set, ok := reuse(manifest); ok {
		return set, nil
	}
	t.bound(o.MaxBytes)
	if err := t.scan(ctx, o.Progress); err != nil {
		return Set{}, err
	}
	set, err := t.write(ctx, &o, tokenizer)
	if err != nil {
		return Set{}, err
	}
	return set, remember(manifest, set)
}

// fraction maps a file's name to [0, 1), by its SHA-256. Purposes are independent.
func fraction(purpose, name string) float64 {
	sum := sha256.Sum256([]byte(purpose + "\x00" + name))
	return float64(binary.BigEndian.Uint64(sum[:])>>11) / (1 << 53)
}

// bound leaves files out until the rest has at most bytesMax bytes.
func (t *tree) bound(bytesMax int64) {
	t.limit = math.MaxInt64
	if bytesMax == 0 {
		return
	}
	if t.single {
		t.limit = bytesMax
		return
	}
	order := slices.Clone(t.entries)
	slices.SortStableFunc(order, func(a, b entry) int {
		return cmp.Compare(fraction("sample", a.name), fraction("sample", b.name))
	})
	keep := make(map[string]bool)
	for _, e := range order {
		if e.size <= bytesMax {
			keep[e.name] = true
			bytesMax -= e.size
		}
	}
	all := len(t.entries)
	t.entries = slices.DeleteFunc(t.entries, func(e entry) bool { return !keep[e.name] })
	t.skipped.Sampled = all - len(t.entries)
}

// scan reads every file and leaves out those that are not text. Afterwards sizes
// are what was read.
func (t *tree) scan(ctx context.Context, progress func(read, total int64)) error {
	buffer := make([]byte, pieceBytes)
	total, read := int64(0), int64(0)
	for _, e := range t.entries {
		total += e.size
	}
	kept := t.entries[:0]
	for _, e := range t.entries {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("data: reading the source was stopped: %w", err)
		}
		v, size, err := scanFile(t.path(e), t.limit, buffer)
		if err != nil {
			return fmt.Errorf("data: source: %w", err)
		}
		read += e.size
		if progress != nil {
			progress(read, total)
		}
		switch v {
		case isBinary:
			t.skipped.Binary++
		case isGenerated:
			t.skipped.Generated++
		case isEmpty:
			t.skipped.Empty++
		default:
			kept = append(kept, entry{name: e.name, size: size})
		}
	}
	t.entries = kept
	if len(kept) == 0 {
		return fmt.Errorf("data: source %s has no text to train on; left out: %+v", t.root, t.skipped)
	}
	return nil
}

func scanFile(path string, limit int64, buffer []byte) (verdict, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, 0, err
	}
	v, size, err := scan(f, limit, buffer)
	return v, size, errors.Join(err, f.Close())
}

// cut is the part of a file that is trained on: its first train bytes. The rest is
// held out.
type cut struct {
	entry
	train int64
}

// split decides what of each file is held out.
func (t *tree) split(heldout float64) []cut {
	cuts := make([]cut, len(t.entries))
	out := 0
	for i, e := range t.entries {
		cuts[i] = cut{entry: e, train: e.size}
		if fraction("heldout", e.name) < heldout {
			cuts[i].train = 0
			out++
		}
	}
	if out > 0 && out < len(cuts) {
		return cuts
	}
	for i, e := range t.entries {
		cuts[i].train = e.size - int64(heldout*float64(e.size))
	}
	return cuts
}

// digestOf starts the digest with everything that decides which text is taken and
// how it is split.
func digestOf(o *Options, tokenizer Tokenizer) []byte {
	b := []byte("loco data 1\n")
	b = fmt.Appendf(b, "tokenizer %s %d\nheldout %v\nmax %d\n", tokenizer.Name(), tokenizer.Vocab(), o.Heldout, o.MaxBytes)
	return fmt.Appendf(b, "extensions %q\n", o.Extensions)
}

// write writes both shards, in the order of the entries.
func (t *tree) write(ctx context.Context, o *Options, tokenizer Tokenizer) (set Set, err error) {
	set = Set{Tokenizer: tokenizer.Name(), Vocab: tokenizer.Vocab(), Skipped: t.skipped}
	splits := [2]*Split{&set.Train, &set.Heldout}
	var writers [2]*shardWriter // train, held-out
	defer func() {
		for _, w := range writers {
			if w != nil && err != nil {
				err = errors.Join(err, w.discard())
			}
		}
	}()
	for i := range writers {
		if writers[i], err = newShardWriter(o.Dir, set.Vocab); err != nil {
			return set, err
		}
	}
	digest := sha256.New()
	digest.Write(digestOf(o, tokenizer))
	c := copier{tokenizer: tokenizer, digest: digest, limited: t.limit < math.MaxInt64, buffer: make([]byte, pieceBytes)}
	for _, file := range t.split(o.Heldout) {
		if err = ctx.Err(); err != nil {
			return set, fmt.Errorf("data: writing shards was stopped: %w", err)
		}
		fmt.Fprintf(digest, "file %q %d\n", file.name, file.size)
		if err = c.copy(t.path(file.entry), file, writers, splits); err != nil {
			return set, err
		}
	}
	if set.Train.Bytes == 0 || set.Heldout.Bytes == 0 {
		return set, fmt.Errorf("data: source %s has %d bytes to train on and %d to hold out: name more text or raise heldout = %v", t.root, set.Train.Bytes, set.Heldout.Bytes, o.Heldout)
	}
	set.Digest = hex.EncodeToString(digest.Sum(nil))
	for i, s := range splits {
		s.Path = filepath.Join(o.Dir, set.Digest[:digestChars]+"."+[]string{"train", "heldout"}[i]+".shard")
		s.Tokens = writers[i].Tokens
		if err = writers[i].commit(s.Path); err != nil {
			return set, err
		}
	}
	return set, nil
}

// copier moves files into shards.
type copier struct {
	tokenizer Tokenizer
	digest    io.Writer
	limited   bool // files may go on after what is taken of them
	buffer    []byte
	tokens    []int32
}

// copy writes the first part of a file to the first shard and the rest to the
// second, each followed by a separator.
func (c *copier) copy(path string, file cut, writers [2]*shardWriter, splits [2]*Split) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("data: source: %w", err)
	}
	for i, size := range []int64{file.train, file.size - file.train} {
		if size == 0 || err != nil {
			continue
		}
		splits[i].Files++
		splits[i].Bytes += size
		err = c.part(f, size, writers[i])
	}
	if err == nil && !c.limited {
		if n, _ := f.Read(c.buffer[:1]); n > 0 {
			err = io.ErrUnexpectedEOF
		}
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("data: source %s changed while it was read: start again", path)
	}
	return errors.Join(err, f.Close())
}

// part copies the next size bytes of r.
func (c *copier) part(r io.Reader, size int64, w *shardWriter) error {
	for size > 0 {
		piece := c.buffer[:min(size, int64(len(c.buffer)))]
		if _, err := io.ReadFull(r, piece); err != nil {
			return err
		}
		if _, err := c.digest.Write(piece); err != nil {
			return err
		}
		c.tokens = c.tokenizer.Encode(c.tokens[:0], piece)
		if err := w.write(c.tokens); err != nil {
			return err
		}
		size -= int64(len(piece))
	}
	return w.write([]int32{c.tokenizer.Separator()})
}
