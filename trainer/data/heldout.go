package data

import "fmt"

// ignored is the target of a position that does not count.
const ignored = -1

// Heldout cuts evaluation batches from held-out tokens: windows of Context tokens,
// evenly spaced from the first token to the last and not overlapping, the same on
// every worker.
type Heldout struct {
	tokens         Tokens
	batch, context int
	windows        int64
	row            []int32
}

// NewHeldout returns about count tokens' worth of windows, at least one, at most as
// many as the tokens hold without overlap; a count of 0 means all of them.
func NewHeldout(tokens Tokens, batch, context int, count int64) (*Heldout, error) {
	if batch < 1 || context < 1 || count < 0 {
		return nil, fmt.Errorf("data: held-out batches of batch = %d, context = %d, tokens = %d: batch and context must be 1 or more, tokens 0 or more", batch, context, count)
	}
	windows := (tokens.Len() - 1) / int64(context)
	if windows < 1 {
		return nil, fmt.Errorf("data: %d held-out tokens, one window of context = %d needs %d: hold out more text or shorten the context", tokens.Len(), context, context+1)
	}
	if count > 0 {
		windows = min(windows, max(1, count/int64(context)))
	}
	return &Heldout{tokens: tokens, batch: batch, context: context, windows: windows, row: make([]int32, context+1)}, nil
}

// Tokens is the number of targets in all batches together.
func (h *Heldout) Tokens() int64 { return h.windows * int64(h.context) }

// Batches is the number of batches; the last may be padded.
func (h *Heldout) Batches() int { return int((h.windows + int64(h.batch) - 1) / int64(h.batch)) }

// start is the first token of a window: the first window starts at 0, the last ends
// with the last token.
func (h *Heldout) start(window int64) int64 {
	if h.windows == 1 {
		return 0
	}
	// Split so that the product stays below 2^63 for any number of tokens.
	free := h.tokens.Len() - int64(h.context) - 1
	gaps := h.windows - 1
	return free/gaps*window + free%gaps*window/gaps
}

// Batch fills inputs and targets, batch·context tokens each, with batch number i and
// returns how many targets count. Sequences past the last window have input 0 and
// target −1, which a loss leaves out.
func (h *Heldout) Batch(i int, inputs, targets []int32) (int, error) {
	if n := h.batch * h.context; len(inputs) != n || len(targets) != n || i < 0 || i >= h.Batches() {
		panic(fmt.Sprintf("data: held-out batch %d of %d into %d inputs and %d targets, want %d of each", i, h.Batches(), len(inputs), len(targets), n))
	}
	counted := 0
	for b := range h.batch {
		in, out := inputs[b*h.context:(b+1)*h.context], targets[b*h.context:(b+1)*h.context]
		window := int64(i)*int64(h.batch) + int64(b)
		if window >= h.windows {
			clear(in)
			for j := range out {
				out[j] = ignored
			}
			continue
		}
		if err := h.tokens.Read(h.row, h.start(window)); err != nil {
			return counted, err
		}
		copy(in, h.row)
		copy(out, h.row[1:])
		counted += h.context
	}
	return counted, nil
}
