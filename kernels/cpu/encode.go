package cpu

import (
	"sync/atomic"

	"loco/kernels"
)

// codecTask is the number of values of a task: whole blocks.
const codecTask = 64 * kernels.CodecBlock

// codecOp is what a codecJob does.
type codecOp int

const (
	opEncode codecOp = iota
	opDecode
	opDecodeAdd
)

// codecJob works on encoded bytes and values, a range of whole blocks a task.
type codecJob struct {
	op      codecOp
	format  kernels.Format
	values  []float32
	encoded []byte
	weight  float32
	good    atomic.Int64 // values before the first block that cannot be encoded
}

func (d *Device) code(name string, op codecOp, f kernels.Format, values []float32, encoded []byte, weight float32) int {
	kernels.CheckSame(name, "bytes", len(encoded), f.EncodedLen(len(values)))
	j := &d.coding
	j.op, j.format, j.values, j.encoded, j.weight = op, f, values, encoded, weight
	j.good.Store(int64(len(values)))
	d.run(j, blocks(len(values), codecTask))
	return int(j.good.Load())
}

func (j *codecJob) do(_, task int) {
	lo, hi := task*codecTask, min((task+1)*codecTask, len(j.values))
	at := j.format.EncodedLen(lo)
	x, b := j.values[lo:hi], j.encoded[at:at+j.format.EncodedLen(hi-lo)]
	switch j.op {
	case opEncode:
		if n := j.format.Encode(b, x); n < len(x) {
			for was := j.good.Load(); int64(lo+n) < was && !j.good.CompareAndSwap(was, int64(lo+n)); {
				was = j.good.Load()
			}
		}
	case opDecode:
		j.format.Decode(x, b)
	case opDecodeAdd:
		j.format.DecodeAdd(x, b, j.weight)
	}
}

// Encode implements kernels.Exchanger.
func (d *Device) Encode(dst []byte, f kernels.Format, src kernels.Buffer) int {
	return d.code("encode", opEncode, f, f32("encode", src), dst, 0)
}

// Decode implements kernels.Exchanger.
func (d *Device) Decode(dst kernels.Buffer, f kernels.Format, src []byte) {
	d.code("decode", opDecode, f, d.written("decode", dst), src, 0)
}

// DecodeAdd implements kernels.Exchanger.
func (d *Device) DecodeAdd(dst kernels.Buffer, f kernels.Format, src []byte, weight float32) {
	d.code("decode-add", opDecodeAdd, f, d.written("decode-add", dst), src, weight)
}
