package gossip

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"slices"
	"sync"
	"time"

	"loco/gossip/protocol"
	"loco/mesh"
)

// State is what a joiner needs to take part in round Round.
type State struct {
	Round   uint64 // the first round that starts from this state
	Step    uint64
	Digest  [32]byte // what Average takes as the digest for Round
	Vectors []NamedVector
	Meta    []byte // the trainer's own
}

// NamedVector is one vector of a state.
type NamedVector struct {
	Name string
	Data []float32
}

// ErrNobody is what FetchState returns when no other live member holds the run's
// state.
var ErrNobody = errors.New("no other member is ready")

const (
	stateID         = "/loco/gossip/state/1"
	stateMagic      = "locoST01"
	stateChunk      = 1 << 18 // bytes
	stateVectorsMax = 4096
	stateNameMax    = 256
	stateMetaMax    = 64 << 20
	stateServeMax   = 4 // joiners served at a time
)

// states serves and fetches states. The package comment has the layout.
type states struct {
	cfg    *Config
	links  *links
	served func(joiner mesh.ID, round uint64)
	ctx    context.Context
	cancel context.CancelFunc

	mu      sync.Mutex
	serving int
	closed  bool
	wg      sync.WaitGroup
}

func newStates(cfg *Config, l *links, served func(mesh.ID, uint64)) *states {
	s := &states{cfg: cfg, links: l, served: served}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if cfg.State != nil {
		cfg.Mesh.Handle(stateID, s.handle)
	}
	return s
}

func (s *states) close() {
	s.cfg.Mesh.Handle(stateID, nil)
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.wg.Wait()
}

// handle answers one joiner.
func (s *states) handle(from mesh.ID, stream mesh.Stream) {
	s.mu.Lock()
	if s.closed || s.serving >= stateServeMax {
		s.mu.Unlock()
		_ = stream.Reset()
		return
	}
	s.serving++
	s.wg.Add(1)
	s.mu.Unlock()
	defer s.wg.Done()
	defer func() { s.mu.Lock(); s.serving--; s.mu.Unlock() }()
	stop := context.AfterFunc(s.ctx, func() { _ = stream.Reset() })
	defer stop()
	state, err := s.cfg.State()
	if err == nil {
		s.served(from, state.Round)
		w := &paced{stream: stream, grace: s.cfg.Grace}
		err = writeState(w, state)
	}
	if err != nil {
		s.cfg.Logger.Warn("gossip: serve the state", "peer", from, "error", err)
		_ = stream.Reset()
		return
	}
	_ = stream.Close()
}

// fetch tries first and then the ready members, those furthest on first, until one sends
// it all.
func (s *states) fetch(ctx context.Context, first mesh.ID) (State, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	members, _ := s.cfg.Mesh.View()
	slices.SortStableFunc(members, func(a, b mesh.Member) int {
		switch first {
		case a.ID:
			return -1
		case b.ID:
			return 1
		}
		return cmp.Or(cmp.Compare(b.Round, a.Round), cmp.Compare(a.State, b.State))
	})
	var errs []error
	for _, m := range members {
		if m.ID == s.cfg.Mesh.Self() || !m.Ready || m.State != mesh.Alive && m.State != mesh.Suspect {
			continue
		}
		state, err := s.fetchFrom(ctx, m.ID)
		if err == nil {
			return state, nil
		}
		errs = append(errs, fmt.Errorf("from worker %d (%s): %w", m.Worker, m.ID, err))
		if ctx.Err() != nil {
			break
		}
	}
	if len(errs) == 0 {
		errs = append(errs, ErrNobody)
	}
	return State{}, fmt.Errorf("gossip: fetch the state: %w", errors.Join(errs...))
}

func (s *states) fetchFrom(ctx context.Context, id mesh.ID) (State, error) {
	open, cancel := context.WithTimeout(ctx, s.cfg.Grace)
	defer cancel()
	stream, err := s.cfg.Mesh.Open(open, id, stateID)
	if err != nil {
		return State{}, err
	}
	defer func() { _ = stream.Reset() }()
	defer context.AfterFunc(ctx, func() { _ = stream.Reset() })()
	r := &paced{stream: stream, grace: s.cfg.Grace}
	// A stream is not there for the other end until something is written to it.
	if _, err := r.Write([]byte{0}); err != nil {
		return State{}, err
	}
	return readState(r, s.cfg.MaxState)
}

// paced gives each read and write of a stream Grace to make progress.
type paced struct {
	stream mesh.Stream
	grace  time.Duration
}

func (p *paced) Read(b []byte) (int, error) {
	_ = p.stream.SetDeadline(time.Now().Add(p.grace))
	return p.stream.Read(b)
}

func (p *paced) Write(b []byte) (int, error) {
	_ = p.stream.SetDeadline(time.Now().Add(p.grace))
	return p.stream.Write(b)
}

// writeState writes the layout that the package comment describes.
func writeState(w io.Writer, s State) error {
	if len(s.Vectors) > stateVectorsMax || len(s.Meta) > stateMetaMax {
		return fmt.Errorf("state of %d vectors and %d bytes of meta, at most %d and %d are sent", len(s.Vectors), len(s.Meta), stateVectorsMax, stateMetaMax)
	}
	head := append([]byte(stateMagic), make([]byte, 0, 128)...)
	head = binary.LittleEndian.AppendUint64(head, s.Round)
	head = binary.LittleEndian.AppendUint64(head, s.Step)
	head = append(head, s.Digest[:]...)
	head = binary.LittleEndian.AppendUint32(head, uint32(len(s.Meta)))
	head = binary.LittleEndian.AppendUint32(head, uint32(len(s.Vectors)))
	for _, v := range s.Vectors {
		if len(v.Name) > stateNameMax {
			return fmt.Errorf("vector name of %d bytes, at most %d are sent", len(v.Name), stateNameMax)
		}
		head = append(binary.LittleEndian.AppendUint16(head, uint16(len(v.Name))), v.Name...)
		head = binary.LittleEndian.AppendUint64(head, uint64(len(v.Data)))
	}
	head = binary.LittleEndian.AppendUint32(head, protocol.Checksum(head))
	sum := sha256.New()
	out := io.MultiWriter(w, sum)
	if _, err := out.Write(head); err != nil {
		return err
	}
	buf := make([]byte, 0, stateChunk+4)
	for rest := s.Meta; len(rest) > 0; rest = rest[min(stateChunk, len(rest)):] {
		if err := writeChunk(out, append(buf, rest[:min(stateChunk, len(rest))]...)); err != nil {
			return err
		}
	}
	for _, v := range s.Vectors {
		for rest := v.Data; len(rest) > 0; rest = rest[min(stateChunk/4, len(rest)):] {
			chunk := buf
			for _, x := range rest[:min(stateChunk/4, len(rest))] {
				chunk = binary.LittleEndian.AppendUint32(chunk, math.Float32bits(x))
			}
			if err := writeChunk(out, chunk); err != nil {
				return err
			}
		}
	}
	_, err := w.Write(sum.Sum(nil))
	return err
}

func writeChunk(w io.Writer, chunk []byte) error {
	_, err := w.Write(binary.LittleEndian.AppendUint32(chunk, protocol.Checksum(chunk)))
	return err
}

// stateReader reads and hashes.
type stateReader struct {
	r   io.Reader
	sum hash.Hash
}

func (s *stateReader) fill(b []byte) error {
	if _, err := io.ReadFull(s.r, b); err != nil {
		return fmt.Errorf("read: %w", err)
	}
	s.sum.Write(b)
	return nil
}

// chunk reads n ≤ stateChunk bytes and their CRC into buf.
func (s *stateReader) chunk(buf []byte, n int) ([]byte, error) {
	b := buf[:n+4]
	if err := s.fill(b); err != nil {
		return nil, err
	}
	if got, want := protocol.Checksum(b[:n]), binary.LittleEndian.Uint32(b[n:]); got != want {
		return nil, fmt.Errorf("chunk of %d bytes has CRC %08x, says %08x", n, got, want)
	}
	return b[:n], nil
}

// readState reads a state of at most limit bytes. Memory grows with what has
// arrived, not with what was announced.
func readState(r io.Reader, limit int64) (State, error) {
	s := &stateReader{r: bufio.NewReaderSize(r, 1<<16), sum: sha256.New()}
	state, meta, sizes, err := s.head(limit)
	if err != nil {
		return State{}, err
	}
	buf := make([]byte, stateChunk+4)
	for meta > 0 {
		b, err := s.chunk(buf, min(stateChunk, meta))
		if err != nil {
			return State{}, err
		}
		state.Meta = append(state.Meta, b...)
		meta -= len(b)
	}
	for i, left := range sizes {
		v := &state.Vectors[i]
		for left > 0 {
			b, err := s.chunk(buf, int(min(stateChunk, 4*left)))
			if err != nil {
				return State{}, fmt.Errorf("vector %q: %w", v.Name, err)
			}
			for ; len(b) > 0; b = b[4:] {
				v.Data = append(v.Data, math.Float32frombits(binary.LittleEndian.Uint32(b)))
				left--
			}
		}
	}
	want := s.sum.Sum(nil)
	got := make([]byte, sha256.Size)
	if _, err := io.ReadFull(s.r, got); err != nil {
		return State{}, fmt.Errorf("read: %w", err)
	}
	if !slices.Equal(got, want) {
		return State{}, fmt.Errorf("the state has SHA-256 %x, its sender says %x", want, got)
	}
	return state, nil
}

// head reads what precedes the chunks, and returns the bytes of meta and the values
// of each vector.
func (s *stateReader) head(limit int64) (state State, meta int, sizes []uint64, err error) {
	all := make([]byte, 64, 256)
	if err := s.fill(all); err != nil {
		return state, 0, nil, err
	}
	if string(all[:8]) != stateMagic {
		return state, 0, nil, fmt.Errorf("magic %q, want %q", all[:8], stateMagic)
	}
	state.Round, state.Step = binary.LittleEndian.Uint64(all[8:]), binary.LittleEndian.Uint64(all[16:])
	state.Digest = [32]byte(all[24:56])
	m, n := binary.LittleEndian.Uint32(all[56:]), binary.LittleEndian.Uint32(all[60:])
	if m > stateMetaMax || n > stateVectorsMax {
		return state, 0, nil, fmt.Errorf("%d bytes of meta and %d vectors, at most %d and %d are allowed", m, n, stateMetaMax, stateVectorsMax)
	}
	total := int64(m)
	for range n {
		var b [stateNameMax + 8]byte
		if err := s.fill(b[:2]); err != nil {
			return state, 0, nil, err
		}
		k := int(binary.LittleEndian.Uint16(b[:]))
		if k > stateNameMax {
			return state, 0, nil, fmt.Errorf("vector name of %d bytes, at most %d are allowed", k, stateNameMax)
		}
		all = append(all, b[:2]...)
		if err := s.fill(b[:k+8]); err != nil {
			return state, 0, nil, err
		}
		all = append(all, b[:k+8]...)
		size := binary.LittleEndian.Uint64(b[k:])
		if size > protocol.LengthMax || total+int64(4*size) > limit {
			return state, 0, nil, fmt.Errorf("vector %q of %d values: more than the %d bytes that are allowed", b[:k], size, limit)
		}
		total += int64(4 * size)
		state.Vectors = append(state.Vectors, NamedVector{Name: string(b[:k])})
		sizes = append(sizes, size)
	}
	var crc [4]byte
	if err := s.fill(crc[:]); err != nil {
		return state, 0, nil, err
	}
	if got, want := protocol.Checksum(all), binary.LittleEndian.Uint32(crc[:]); got != want {
		return state, 0, nil, fmt.Errorf("head has CRC %08x, says %08x", got, want)
	}
	return state, int(m), sizes, nil
}
