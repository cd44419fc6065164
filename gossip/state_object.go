package gossip

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"runtime"
	"sync"
	"time"

	"loco/gossip/exchange"
	"loco/gossip/transfer"
	"loco/kernels"
	"loco/mesh"
)

// resultPart is the name of the only part of a result.
const resultPart = "result"

// object is something that a worker serves, or gathers: vectors, or the bytes of a
// result.
type object struct {
	*transfer.Manifest
	id      [32]byte
	raw     []byte // the manifest
	vectors [][]float32
	bytes   []byte
	born    time.Time
	users   map[mesh.ID]time.Time // when each joiner last asked for some of it
}

// use notes that a joiner asked for some of it.
func (o *object) use(from mesh.ID) { o.users[from] = time.Now() }

// idle is how long nobody has asked for any of it.
func (o *object) idle() time.Duration {
	idle := time.Since(o.born)
	for _, at := range o.users {
		idle = min(idle, time.Since(at))
	}
	return idle
}

// describeState hashes a copy of a state, which nobody writes to any more.
func describeState(kind transfer.Kind, st exchange.State) *object {
	m := &transfer.Manifest{Kind: kind, Round: st.Round, Digest: st.Digest, Tokens: st.Tokens, Updates: st.Updates}
	o := &object{Manifest: m}
	for _, v := range st.Vectors {
		m.Parts = append(m.Parts, transfer.Part{Name: v.Name, Bytes: 4 * uint64(len(v.Data))})
		o.vectors = append(o.vectors, v.Data)
	}
	o.seal()
	return o
}

func describeResult(r exchange.Result) *object {
	sum := kernels.Digest(r.Bytes)
	m := &transfer.Manifest{Kind: transfer.Result, Round: r.Round, Digest: sum, Tokens: r.Tokens,
		Parts: []transfer.Part{{Name: resultPart, Bytes: uint64(len(r.Bytes))}}}
	o := &object{Manifest: m, bytes: r.Bytes}
	o.seal()
	return o
}

// seal fills in the hashes.
func (o *object) seal() {
	o.ChunkBytes = transfer.ChunkBytes(o.Bytes())
	o.Chunks = make([][32]byte, (o.Bytes()+uint64(o.ChunkBytes)-1)/uint64(o.ChunkBytes))
	var wg sync.WaitGroup
	threads := min(len(o.Chunks), runtime.GOMAXPROCS(0))
	for k := range threads {
		wg.Go(func() {
			var buf []byte
			for i := k; i < len(o.Chunks); i += threads {
				lo, hi := o.Span(i)
				buf = o.read(buf[:0], lo, hi)
				o.Chunks[i] = sha256.Sum256(buf)
			}
		})
	}
	wg.Wait()
	for i, sum := range o.sums() {
		o.Parts[i].Sum = sum
	}
	o.raw = o.Append(nil)
	o.id = sha256.Sum256(o.raw)
	o.born, o.users = time.Now(), map[mesh.ID]time.Time{}
}

// gather prepares an object whose bytes are to come.
func gather(m *transfer.Manifest) *object {
	o := &object{Manifest: m, raw: m.Append(nil)}
	o.id = sha256.Sum256(o.raw)
	if m.Kind == transfer.Result {
		o.bytes = make([]byte, m.Bytes())
		return o
	}
	for _, p := range m.Parts {
		o.vectors = append(o.vectors, make([]float32, p.Bytes/4))
	}
	return o
}

// each calls f for the values [lo, hi) of each vector that lie in the bytes [lo, hi).
// Chunks begin and end between values, for their length is a multiple of 4.
func (o *object) each(lo, hi uint64, f func(values []float32)) {
	at := uint64(0)
	for _, v := range o.vectors {
		end := at + 4*uint64(len(v))
		if a, b := max(lo, at), min(hi, end); a < b {
			f(v[(a-at)/4 : (b-at)/4])
		}
		at = end
	}
}

// read appends the bytes [lo, hi).
func (o *object) read(dst []byte, lo, hi uint64) []byte {
	if o.vectors == nil {
		return append(dst, o.bytes[lo:hi]...)
	}
	o.each(lo, hi, func(values []float32) {
		for _, x := range values {
			dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(x))
		}
	})
	return dst
}

// put stores a chunk that has the right hash.
func (o *object) put(chunk int, b []byte) {
	lo, hi := o.Span(chunk)
	if o.vectors == nil {
		copy(o.bytes[lo:hi], b)
		return
	}
	o.each(lo, hi, func(values []float32) {
		for i := range values {
			values[i] = math.Float32frombits(binary.LittleEndian.Uint32(b))
			b = b[4:]
		}
	})
}

// sums returns the digest of each part.
func (o *object) sums() (sums [][32]byte) {
	at := uint64(0)
	for _, p := range o.Parts {
		sums = append(sums, kernels.DigestOf(int(p.Bytes), func(dst []byte, lo, hi int) {
			kernels.HashLeaves(dst, o.read(make([]byte, 0, hi-lo), at+uint64(lo), at+uint64(hi)))
		}))
		at += p.Bytes
	}
	return sums
}

// verify compares the whole with what its manifest says.
func (o *object) verify() error {
	for i, sum := range o.sums() {
		if p := o.Parts[i]; sum != p.Sum {
			return fmt.Errorf("part %q of round %d has digest %x, its manifest says %x", p.Name, o.Round, sum[:8], p.Sum[:8])
		}
	}
	return nil
}

// state returns the vectors of a whole object.
func (o *object) state() exchange.State {
	st := exchange.State{Mark: exchange.Mark{Round: o.Round, Digest: o.Digest}, Tokens: o.Tokens, Updates: o.Updates}
	for i, p := range o.Parts {
		st.Vectors = append(st.Vectors, exchange.Named{Name: p.Name, Data: o.vectors[i]})
	}
	return st
}
