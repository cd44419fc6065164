//go:build cuda && linux && amd64

package driver

// #include <cuda.h>
//
// // A relaxed capture is not tied to the thread that began it.
// static CUresult begin_capture(CUstream stream) {
// 	return cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_RELAXED);
// }
//
// static CUresult end_capture(CUstream stream, CUgraphExec *exec) {
// 	CUgraph graph = 0;
// 	CUresult r = cuStreamEndCapture(stream, &graph);
// 	if (r != CUDA_SUCCESS)
// 		return r;
// 	if (exec)
// 		r = cuGraphInstantiateWithFlags(exec, graph, 0);
// 	CUresult destroyed = cuGraphDestroy(graph);
// 	return r != CUDA_SUCCESS ? r : destroyed;
// }
import "C"

import (
	"errors"
	"runtime"
	"unsafe"

	"gorgonia.org/cu"
)

// A Graph is recorded work that one call launches, which spares the host a call per
// kernel. Arguments and addresses are those of the recording.
type Graph struct {
	d    *Device
	exec C.CUgraphExec
}

// Capture records what f gives to the stream, and to others behind its events, instead
// of running it. f must neither wait nor allocate. Where f fails nothing is kept.
func (s *Stream) Capture(f func() error) (*Graph, error) {
	if err := s.d.enter(); err != nil {
		return nil, err
	}
	defer runtime.UnlockOSThread()
	if err := check(C.begin_capture(stream(s.s))); err != nil {
		return nil, s.d.failed(err, "begin to record a stream")
	}
	if err := f(); err != nil {
		// A fault within a capture invalidates it, and ending it says so once more.
		return nil, errors.Join(err, check(C.end_capture(stream(s.s), nil)))
	}
	g := &Graph{d: s.d}
	if err := check(C.end_capture(stream(s.s), &g.exec)); err != nil {
		return nil, s.d.failed(err, "make a graph of what was recorded")
	}
	return g, nil
}

// Replay gives the recorded work to the stream.
func (s *Stream) Replay(g *Graph) error {
	if err := s.d.enter(); err != nil {
		return err
	}
	defer runtime.UnlockOSThread()
	if err := check(C.cuGraphLaunch(g.exec, stream(s.s))); err != nil {
		return s.d.failed(err, "launch a graph")
	}
	return nil
}

// Close gives the graph back.
func (g *Graph) Close() error {
	if err := g.d.enter(); err != nil {
		return err
	}
	defer runtime.UnlockOSThread()
	if err := check(C.cuGraphExecDestroy(g.exec)); err != nil {
		return g.d.failed(err, "close a graph")
	}
	return nil
}

func stream(s cu.Stream) C.CUstream { return *(*C.CUstream)(unsafe.Pointer(&s)) }
