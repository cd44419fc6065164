package wire

import (
	"errors"
	"io"
)

// stepBytes is what ReadN allocates for bytes that have not come yet.
const stepBytes = 64 << 10

// ReadN reads n bytes into buf, whose contents it replaces. The buffer grows as bytes
// arrive, not as they are announced: to twice what has come, and by at least 64 KiB. A
// stream that ends before them is cut short: the error is [io.ErrUnexpectedEOF].
func ReadN(r io.Reader, buf []byte, n int) ([]byte, error) {
	buf = buf[:0]
	for len(buf) < n {
		at := len(buf)
		step := min(n-at, max(stepBytes, at, cap(buf)-at))
		buf = append(buf, make([]byte, step)...)
		if _, err := io.ReadFull(r, buf[at:]); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return buf, nil
}
