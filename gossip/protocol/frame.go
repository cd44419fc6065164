package protocol

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	"loco/gossip/exchange"
)

// Limits of what a peer may send.
const (
	HeaderLen    = 52
	frameVersion = 2
	WorkerMax    = 1<<16 - 1
	controlMax   = 1 << 18         // bytes of a control frame's payload
	dataMax      = 4 * ChunkValues // bytes of a data frame's payload
	dropsMax     = 64              // attempts that a group calls void
	MembersMax   = 1024            // of one group
	idMax        = 128             // bytes of a peer ID
	whyMax       = 512             // bytes of a reason
	memberFixed  = 4 + 8 + 1 + 2   // bytes of a group's member without its ID
)

// Part says which vector of a round is averaged.
type Part = exchange.Part

// The vectors that cross the network.
const (
	Delta = exchange.Delta
	Slow  = exchange.Slow
)

// Type numbers what a frame carries. Numbers are only ever added: peers of
// different versions read each other's frames.
type Type uint8

const (
	TypeReady        Type = 1
	TypeWithdraw     Type = 2
	TypeGroup        Type = 3
	TypeDone         Type = 4
	TypeCommit       Type = 5
	TypeFailed       Type = 6
	TypeBehind       Type = 7
	TypeWant         Type = 8
	TypeContribution Type = 16
	TypeResult       Type = 17
	TypeOffer        Type = 32
	TypeAccept       Type = 33
	TypeRefuse       Type = 34
	TypeLonely       Type = 35
	TypePair         Type = 36
	TypeHolds        Type = 37
	TypeForgot       Type = 38
	TypeMeet         Type = 39
)

// payloadMax bounds a frame's payload by its type; 0 says that the type is unknown.
func (t Type) payloadMax() int {
	switch t {
	case TypeContribution, TypeResult, TypePair:
		return dataMax
	case TypeReady, TypeWithdraw, TypeGroup, TypeDone, TypeCommit, TypeFailed, TypeBehind, TypeWant,
		TypeOffer, TypeAccept, TypeRefuse, TypeLonely, TypeHolds, TypeForgot, TypeMeet:
		return controlMax
	}
	return 0
}

// Header is the fixed part of every frame; docs/protocol.md has its layout.
type Header struct {
	Type    Type
	Part    Part
	Round   uint64
	Attempt uint64
	Shard   uint32
	Chunk   uint32
	Worker  uint32 // the sender's number
	Count   uint32 // values in the payload of a data frame
	Length  uint32 // bytes of payload
	CRC     uint32 // CRC-32C of the payload
}

func Checksum(p []byte) uint32 { return crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli)) }

// AppendHeader appends h with the length and CRC of payload.
func AppendHeader(dst []byte, h Header, payload []byte) []byte {
	at := len(dst)
	dst = append(dst, 'l', 'o', 'c', 'o', frameVersion, byte(h.Type), byte(h.Part), 0)
	dst = binary.LittleEndian.AppendUint64(dst, h.Round)
	dst = binary.LittleEndian.AppendUint64(dst, h.Attempt)
	for _, v := range []uint32{h.Shard, h.Chunk, h.Worker, h.Count, uint32(len(payload)), Checksum(payload)} {
		dst = binary.LittleEndian.AppendUint32(dst, v)
	}
	return binary.LittleEndian.AppendUint32(dst, Checksum(dst[at:]))
}

// ParseHeader reads HeaderLen bytes and refuses what this version does not send.
func ParseHeader(p []byte) (Header, error) {
	if len(p) != HeaderLen {
		return Header{}, fmt.Errorf("header of %d bytes, want %d", len(p), HeaderLen)
	}
	if string(p[:4]) != "loco" {
		return Header{}, fmt.Errorf("magic %q, want \"loco\"", p[:4])
	}
	if got, want := Checksum(p[:HeaderLen-4]), binary.LittleEndian.Uint32(p[HeaderLen-4:]); got != want {
		return Header{}, fmt.Errorf("header CRC %08x, says %08x", got, want)
	}
	if p[4] != frameVersion {
		return Header{}, fmt.Errorf("frame version %d, this program reads %d", p[4], frameVersion)
	}
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(p[at:]) }
	h := Header{
		Type: Type(p[5]), Part: Part(p[6]), Round: binary.LittleEndian.Uint64(p[8:]),
		Attempt: binary.LittleEndian.Uint64(p[16:]), Shard: u32(24), Chunk: u32(28), Worker: u32(32), Count: u32(36), Length: u32(40), CRC: u32(44),
	}
	limit := h.Type.payloadMax()
	switch {
	case limit == 0:
		return Header{}, fmt.Errorf("frame type %d is unknown", h.Type)
	case h.Part > Slow || p[7] != 0:
		return Header{}, fmt.Errorf("frame type %d has part %d and flags %d, want part 0 or 1 and no flags", h.Type, h.Part, p[7])
	case h.Length > uint32(limit):
		return Header{}, fmt.Errorf("frame type %d announces %d bytes, at most %d are allowed", h.Type, h.Length, limit)
	case h.Worker > WorkerMax:
		return Header{}, fmt.Errorf("worker number %d, at most %d is allowed", h.Worker, WorkerMax)
	case h.Count > ChunkValues:
		return Header{}, fmt.Errorf("frame type %d announces %d values, at most %d are allowed", h.Type, h.Count, ChunkValues)
	}
	return h, nil
}

var ErrPayloadCRC = errors.New("payload does not match its CRC")

// attemptNumber is unique and ordered: a later try is larger, and of two tries begun
// at once the one of the lower coordinator is.
func attemptNumber(try, coordinator int, nonce uint32) uint64 {
	return uint64(try)<<48 | uint64(WorkerMax-coordinator)<<32 | uint64(nonce)
}

// attemptParts undoes attemptNumber.
func attemptParts(a uint64) (try, coordinator int) {
	return int(a >> 48), WorkerMax - int(a>>32&WorkerMax)
}

// CheckWeight refuses weights that no divisor can be made of.
func CheckWeight(w float64) error {
	if !(w > 0) || w > math.MaxFloat32 {
		return fmt.Errorf("weight is %v, want a positive finite number", w)
	}
	return nil
}
