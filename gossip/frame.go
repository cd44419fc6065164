package gossip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// Limits of what a peer may send.
const (
	headerLen    = 48
	frameVersion = 1
	workerMax    = 1<<16 - 1
	controlMax   = 1 << 18         // bytes of a control frame's payload
	dataMax      = 4 * chunkValues // bytes of a data frame's payload
	membersMax   = 1024            // of one group
	idMax        = 128             // bytes of a peer ID
	whyMax       = 512             // bytes of a reason
)

// frameType numbers what a frame carries. Numbers are only ever added: peers of
// different versions read each other's frames.
type frameType uint8

const (
	typeReady        frameType = 1
	typeWithdraw     frameType = 2
	typeGroup        frameType = 3
	typeDone         frameType = 4
	typeCommit       frameType = 5
	typeFailed       frameType = 6
	typeBehind       frameType = 7
	typeWant         frameType = 8
	typeContribution frameType = 16
	typeResult       frameType = 17
	typeOffer        frameType = 32
	typeAccept       frameType = 33
	typeRefuse       frameType = 34
	typeLonely       frameType = 35
	typePair         frameType = 36
)

// payloadMax bounds a frame's payload by its type; 0 says that the type is unknown.
func (t frameType) payloadMax() int {
	switch t {
	case typeContribution, typeResult, typePair:
		return dataMax
	case typeReady, typeWithdraw, typeGroup, typeDone, typeCommit, typeFailed, typeBehind, typeWant,
		typeOffer, typeAccept, typeRefuse, typeLonely:
		return controlMax
	}
	return 0
}

// header is the fixed part of every frame; the package comment has its layout.
type header struct {
	Type    frameType
	Part    Part
	Round   uint64
	Attempt uint32
	Shard   uint32
	Chunk   uint32
	Worker  uint32 // the sender's number
	Count   uint32 // values in the payload of a data frame
	Length  uint32 // bytes of payload
	CRC     uint32 // CRC-32C of the payload
}

func castagnoli(p []byte) uint32 { return crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli)) }

// appendHeader appends h with the length and CRC of payload.
func appendHeader(dst []byte, h header, payload []byte) []byte {
	at := len(dst)
	dst = append(dst, 'l', 'o', 'c', 'o', frameVersion, byte(h.Type), byte(h.Part), 0)
	dst = binary.LittleEndian.AppendUint64(dst, h.Round)
	for _, v := range []uint32{h.Attempt, h.Shard, h.Chunk, h.Worker, h.Count, uint32(len(payload)), castagnoli(payload)} {
		dst = binary.LittleEndian.AppendUint32(dst, v)
	}
	return binary.LittleEndian.AppendUint32(dst, castagnoli(dst[at:]))
}

// parseHeader reads headerLen bytes and refuses what this version does not send.
func parseHeader(p []byte) (header, error) {
	if len(p) != headerLen {
		return header{}, fmt.Errorf("header of %d bytes, want %d", len(p), headerLen)
	}
	if string(p[:4]) != "loco" {
		return header{}, fmt.Errorf("magic %q, want \"loco\"", p[:4])
	}
	if got, want := castagnoli(p[:44]), binary.LittleEndian.Uint32(p[44:]); got != want {
		return header{}, fmt.Errorf("header CRC %08x, says %08x", got, want)
	}
	if p[4] != frameVersion {
		return header{}, fmt.Errorf("frame version %d, this program reads %d", p[4], frameVersion)
	}
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(p[at:]) }
	h := header{
		Type: frameType(p[5]), Part: Part(p[6]), Round: binary.LittleEndian.Uint64(p[8:]),
		Attempt: u32(16), Shard: u32(20), Chunk: u32(24), Worker: u32(28), Count: u32(32), Length: u32(36), CRC: u32(40),
	}
	limit := h.Type.payloadMax()
	switch {
	case limit == 0:
		return header{}, fmt.Errorf("frame type %d is unknown", h.Type)
	case h.Part > Slow || p[7] != 0:
		return header{}, fmt.Errorf("frame type %d has part %d and flags %d, want part 0 or 1 and no flags", h.Type, h.Part, p[7])
	case h.Length > uint32(limit):
		return header{}, fmt.Errorf("frame type %d announces %d bytes, at most %d are allowed", h.Type, h.Length, limit)
	case h.Worker > workerMax:
		return header{}, fmt.Errorf("worker number %d, at most %d is allowed", h.Worker, workerMax)
	case h.Count > chunkValues:
		return header{}, fmt.Errorf("frame type %d announces %d values, at most %d are allowed", h.Type, h.Count, chunkValues)
	}
	return h, nil
}

var errPayloadCRC = errors.New("payload does not match its CRC")

// attemptNumber is unique and ordered: a later try is larger, and of two tries begun
// at once the one of the lower coordinator is.
func attemptNumber(try uint32, coordinator int) uint32 {
	return try<<16 | uint32(workerMax-coordinator)
}

// attemptParts undoes attemptNumber.
func attemptParts(a uint32) (try uint32, coordinator int) {
	return a >> 16, workerMax - int(a&workerMax)
}
