package data

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// headerBytes is the length of a shard's header; doc.go has the layout.
const headerBytes = 40

const (
	magic     = "locoshrd"
	version   = 1
	tokensMax = 1 << 48
	vocabMax  = 1<<31 - 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Header describes a shard.
type Header struct {
	TokenBytes int    // 1, 2 or 4
	Vocab      int    // every token is below it
	Tokens     int64  // in the shard
	DataCRC    uint32 // CRC-32C of the tokens' bytes
}

// tokenBytes returns how many bytes a token of a vocabulary takes.
func tokenBytes(vocab int) int {
	switch {
	case vocab <= 1<<8:
		return 1
	case vocab <= 1<<16:
		return 2
	}
	return 4
}

func (h Header) validate() error {
	if h.TokenBytes != 1 && h.TokenBytes != 2 && h.TokenBytes != 4 {
		return fmt.Errorf("%d bytes a token at offset 12, allowed are 1, 2 and 4", h.TokenBytes)
	}
	if h.Vocab < 1 || h.Vocab > vocabMax || tokenBytes(h.Vocab) > h.TokenBytes {
		return fmt.Errorf("vocabulary of %d at offset 16 does not fit tokens of %d bytes", h.Vocab, h.TokenBytes)
	}
	if h.Tokens < 0 || h.Tokens > tokensMax {
		return fmt.Errorf("%d tokens at offset 24, at most %d are allowed", h.Tokens, int64(tokensMax))
	}
	return nil
}

// AppendHeader appends a shard's header to dst. It fails on values that the format
// does not allow.
func AppendHeader(dst []byte, h Header) ([]byte, error) {
	if err := h.validate(); err != nil {
		return dst, fmt.Errorf("data: shard header: %w", err)
	}
	start := len(dst)
	dst = append(dst, magic...)
	dst = binary.LittleEndian.AppendUint32(dst, version)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(h.TokenBytes))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(h.Vocab))
	dst = binary.LittleEndian.AppendUint32(dst, 0)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(h.Tokens))
	dst = binary.LittleEndian.AppendUint32(dst, h.DataCRC)
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli)), nil
}

// parseHeader reads the header at the start of src.
func parseHeader(src []byte) (Header, error) {
	if len(src) < headerBytes {
		return Header{}, fmt.Errorf("%d bytes, it has %d: the file is cut short", len(src), headerBytes)
	}
	if string(src[:8]) != magic {
		return Header{}, errors.New("no magic at offset 0: not a shard")
	}
	if got, want := crc32.Checksum(src[:36], castagnoli), binary.LittleEndian.Uint32(src[36:]); got != want {
		return Header{}, fmt.Errorf("checksum %#08x at offset 36, of the bytes before it %#08x: damaged", want, got)
	}
	if v := binary.LittleEndian.Uint32(src[8:]); v != version {
		return Header{}, fmt.Errorf("version %d at offset 8, this program reads %d: prepare the data again", v, version)
	}
	if r := binary.LittleEndian.Uint32(src[20:]); r != 0 {
		return Header{}, fmt.Errorf("reserved field %d at offset 20, want 0", r)
	}
	h := Header{
		TokenBytes: int(binary.LittleEndian.Uint32(src[12:])), Vocab: int(binary.LittleEndian.Uint32(src[16:])),
		Tokens: int64(binary.LittleEndian.Uint64(src[24:])), DataCRC: binary.LittleEndian.Uint32(src[32:]),
	}
	return h, h.validate() // a number that wraps is negative, and refused
}

// putTokens stores tokens at the start of dst, each in width bytes.
func putTokens(dst []byte, tokens []int32, width int) {
	switch width {
	case 1:
		for i, t := range tokens {
			dst[i] = byte(t)
		}
	case 2:
		for i, t := range tokens {
			binary.LittleEndian.PutUint16(dst[2*i:], uint16(t))
		}
	default:
		for i, t := range tokens {
			binary.LittleEndian.PutUint32(dst[4*i:], uint32(t))
		}
	}
}

// getTokens fills dst from width bytes each at the start of src.
func getTokens(dst []int32, src []byte, width int) {
	switch width {
	case 1:
		for i := range dst {
			dst[i] = int32(src[i])
		}
	case 2:
		for i := range dst {
			dst[i] = int32(binary.LittleEndian.Uint16(src[2*i:]))
		}
	default:
		for i := range dst {
			dst[i] = int32(binary.LittleEndian.Uint32(src[4*i:]))
		}
	}
}
