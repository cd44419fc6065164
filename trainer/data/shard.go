package data

import (
	"bufio"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sync"

	"loco/checkpoint/atomicfile"
)

// loadMax is the size of the tokens, in bytes, up to which Open holds them in
// memory. A larger shard is read from its file window by window.
const loadMax = 1 << 30

// pieceBytes is how much of a file is read at a time.
const pieceBytes = 1 << 20

// Shard is an open shard. It is safe for concurrent use.
type Shard struct {
	Header
	path   string
	loaded []byte   // the tokens' bytes
	file   *os.File // nil when loaded

	mu    sync.Mutex
	piece []byte // what Read takes from the file at a time, held by mu
}

// Open opens a shard and checks its header and length. One of up to a gibibyte is
// loaded and verified whole; a larger one is verified by Verify, and each window as
// it is read only for tokens outside the vocabulary.
func Open(path string) (*Shard, error) { return open(path, loadMax) }

func open(path string, loadMax int64) (*Shard, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("data: open shard: %w", err)
	}
	s := &Shard{path: path, file: f}
	err = s.readHeader()
	if size := s.Tokens * int64(s.TokenBytes); err == nil && size <= loadMax {
		s.loaded = make([]byte, size)
		if err = s.readAt(s.loaded, 0); err == nil {
			err = s.check(s.loaded)
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if s.loaded == nil {
		s.piece = make([]byte, readBytes)
		return s, nil
	}
	s.file = nil
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("data: close shard: %w", err)
	}
	return s, nil
}

// readHeader also compares the file's length with the header: nothing is allocated for
// tokens that are not there.
func (s *Shard) readHeader() error {
	info, err := s.file.Stat()
	if err != nil {
		return fmt.Errorf("data: shard %s: %w", s.path, err)
	}
	var raw [headerBytes]byte
	n, err := s.file.ReadAt(raw[:], 0)
	if err != nil && err != io.EOF {
		return fmt.Errorf("data: shard %s: read at offset 0: %w", s.path, err)
	}
	if s.Header, err = parseHeader(raw[:n]); err != nil {
		return fmt.Errorf("data: shard %s: %w", s.path, err)
	}
	if want := headerBytes + s.Tokens*int64(s.TokenBytes); info.Size() != want {
		return fmt.Errorf("data: shard %s: %d bytes, its header says %d: delete it and prepare the data again", s.path, info.Size(), want)
	}
	return nil
}

// Close closes the shard's file.
func (s *Shard) Close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

// Len is the number of tokens.
func (s *Shard) Len() int64 { return s.Tokens }

// Path is the shard's file.
func (s *Shard) Path() string { return s.path }

// readBytes is how much Read takes from the file at a time: a window of a few
// thousand tokens.
const readBytes = 1 << 15

// Read fills dst with the tokens from position at on. It allocates nothing.
func (s *Shard) Read(dst []int32, at int64) error {
	if at < 0 || at > s.Tokens-int64(len(dst)) {
		return fmt.Errorf("data: shard %s: tokens %d to %d of %d", s.path, at, at+int64(len(dst)), s.Tokens)
	}
	if s.loaded != nil {
		getTokens(dst, s.loaded[at*int64(s.TokenBytes):], s.TokenBytes)
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(dst) > 0 {
		n := min(len(dst), len(s.piece)/s.TokenBytes)
		raw := s.piece[:n*s.TokenBytes]
		if err := s.readAt(raw, at*int64(s.TokenBytes)); err != nil {
			return err
		}
		getTokens(dst[:n], raw, s.TokenBytes)
		if err := s.checkVocab(dst[:n], at); err != nil {
			return err
		}
		dst, at = dst[n:], at+int64(n)
	}
	return nil
}

func (s *Shard) readAt(raw []byte, offset int64) error {
	if len(raw) == 0 {
		return nil
	}
	if _, err := s.file.ReadAt(raw, headerBytes+offset); err != nil {
		return fmt.Errorf("data: shard %s: read at offset %d: %w", s.path, headerBytes+offset, err)
	}
	return nil
}

// Verify reads the whole shard and holds it to its checksum and its vocabulary.
func (s *Shard) Verify() error {
	if s.loaded != nil {
		return s.check(s.loaded)
	}
	sum := uint32(0)
	raw := make([]byte, pieceBytes)
	tokens := make([]int32, pieceBytes/s.TokenBytes)
	for at := int64(0); at < s.Tokens; at += int64(len(tokens)) {
		tokens = tokens[:min(int64(len(tokens)), s.Tokens-at)]
		raw = raw[:len(tokens)*s.TokenBytes]
		if err := s.readAt(raw, at*int64(s.TokenBytes)); err != nil {
			return err
		}
		sum = crc32.Update(sum, castagnoli, raw)
		getTokens(tokens, raw, s.TokenBytes)
		if err := s.checkVocab(tokens, at); err != nil {
			return err
		}
	}
	return s.checkSum(sum)
}

// check verifies the bytes of all tokens.
func (s *Shard) check(all []byte) error {
	if err := s.checkSum(crc32.Checksum(all, castagnoli)); err != nil {
		return err
	}
	if s.Vocab == 1<<(8*s.TokenBytes) {
		return nil // every token fits
	}
	piece := make([]int32, min(s.Tokens, pieceBytes))
	for at := int64(0); at < s.Tokens; at += int64(len(piece)) {
		piece = piece[:min(int64(len(piece)), s.Tokens-at)]
		getTokens(piece, all[at*int64(s.TokenBytes):], s.TokenBytes)
		if err := s.checkVocab(piece, at); err != nil {
			return err
		}
	}
	return nil
}

func (s *Shard) checkSum(sum uint32) error {
	if sum != s.DataCRC {
		return fmt.Errorf("data: shard %s: checksum %#08x of the tokens from offset %d on, the header says %#08x: damaged, delete it and prepare the data again", s.path, sum, headerBytes, s.DataCRC)
	}
	return nil
}

func (s *Shard) checkVocab(tokens []int32, at int64) error {
	for i, t := range tokens {
		if t < 0 || int(t) >= s.Vocab {
			return fmt.Errorf("data: shard %s: token %d at offset %d, the vocabulary has %d", s.path, uint32(t), headerBytes+(at+int64(i))*int64(s.TokenBytes), s.Vocab)
		}
	}
	return nil
}

// shardWriter writes a shard under a temporary name.
type shardWriter struct {
	Header
	file   *atomicfile.File
	buffer *bufio.Writer
	raw    []byte
}

func newShardWriter(dir string, vocab int) (*shardWriter, error) {
	f, err := atomicfile.Create(filepath.Join(dir, "shard"), sharedMode)
	if err != nil {
		return nil, fmt.Errorf("data: create shard: %w", err)
	}
	w := &shardWriter{Header: Header{TokenBytes: tokenBytes(vocab), Vocab: vocab}, file: f, buffer: bufio.NewWriterSize(f, pieceBytes)}
	if _, err := w.buffer.Write(make([]byte, headerBytes)); err != nil {
		return nil, errors.Join(fmt.Errorf("data: write shard: %w", err), w.discard())
	}
	return w, nil
}

func (w *shardWriter) write(tokens []int32) error {
	n := len(tokens) * w.TokenBytes
	if cap(w.raw) < n {
		w.raw = make([]byte, n)
	}
	raw := w.raw[:n]
	putTokens(raw, tokens, w.TokenBytes)
	w.DataCRC = crc32.Update(w.DataCRC, castagnoli, raw)
	w.Tokens += int64(len(tokens))
	if _, err := w.buffer.Write(raw); err != nil {
		return fmt.Errorf("data: write shard %s: %w", w.file.Name(), err)
	}
	return nil
}

// commit completes the file and gives it its name.
func (w *shardWriter) commit(path string) error {
	header, err := AppendHeader(nil, w.Header)
	if err == nil {
		err = w.buffer.Flush()
	}
	if err == nil {
		_, err = w.file.WriteAt(header, 0)
	}
	if err == nil {
		err = w.file.CommitAs(path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("data: write shard %s: %w", path, err), w.discard())
	}
	return nil
}

// discard removes the temporary file; it does nothing after commit.
func (w *shardWriter) discard() error { return w.file.Abort() }
