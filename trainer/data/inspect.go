package data

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"math"
	"slices"
)

// Info is what a shard holds.
type Info struct {
	Path       string   `json:"path"`
	Digest     string   `json:"digest"` // SHA-256 of the tokens as stored
	Tokens     int64    `json:"tokens"`
	TokenBytes int      `json:"token_bytes"`
	Vocab      int      `json:"vocab"`
	Used       int      `json:"used"`      // tokens of the vocabulary that occur
	Documents  int64    `json:"documents"` // separators
	Entropy    float64  `json:"entropy"`   // of single tokens, in nats: the loss of a model that knows only their frequencies
	Samples    []string `json:"samples"`   // text of evenly spaced windows
}

// Inspect reads a whole shard, verifies it, and returns what it holds with the text
// of samples windows of sampleTokens tokens.
func Inspect(s *Shard, tokenizer Tokenizer, samples, sampleTokens int) (Info, error) {
	if err := s.Verify(); err != nil {
		return Info{}, err
	}
	info := Info{Path: s.path, Tokens: s.Tokens, TokenBytes: s.TokenBytes, Vocab: s.Vocab}
	count := make(map[int32]int64)
	digest := sha256.New()
	piece := make([]int32, min(s.Tokens, pieceBytes))
	raw := make([]byte, len(piece)*s.TokenBytes)
	for at := int64(0); at < s.Tokens; at += int64(len(piece)) {
		piece = piece[:min(int64(len(piece)), s.Tokens-at)]
		if err := s.Read(piece, at); err != nil {
			return Info{}, err
		}
		for _, t := range piece {
			count[t]++
		}
		raw = raw[:len(piece)*s.TokenBytes]
		putTokens(raw, piece, s.TokenBytes)
		digest.Write(raw)
	}
	info.Digest = hex.EncodeToString(digest.Sum(nil))
	info.Used = len(count)
	info.Documents = count[tokenizer.Separator()]
	for _, n := range slices.Sorted(maps.Values(count)) { // in one order, for one result
		p := float64(n) / float64(s.Tokens)
		info.Entropy -= p * math.Log(p)
	}
	for i := range samples {
		window := make([]int32, min(int64(sampleTokens), s.Tokens))
		if err := s.Read(window, (s.Tokens-int64(len(window)))/int64(samples)*int64(i)); err != nil {
			return Info{}, err
		}
		info.Samples = append(info.Samples, string(tokenizer.Decode(nil, window)))
	}
	return info, nil
}
