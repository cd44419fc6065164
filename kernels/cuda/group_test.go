//go:build cuda && linux && amd64

package cuda

import (
	"fmt"
	"math"
	"testing"

	"loco/kernels"
	"loco/kernels/cuda/driver"
)

// The sum over GPUs is the host's, to the bit, call after call on the same vectors.
func TestGroupSumsAsTheHostDoes(t *testing.T) {
	if noDevice != "" {
		t.Skip(noDevice)
	}
	if list, err := driver.Devices(); err != nil || len(list) < 2 {
		t.Skipf("%d devices, %v", len(list), err)
	}
	for _, n := range []int{1, 1000, 4000, 9070} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			devices, peers, err := openAll([]int{0, 1}, kernels.FP32, 1024)
			if err != nil {
				t.Fatal(err)
			}
			host, _, err := OpenAll([]int{0, 1}, kernels.FP32)
			if err != nil {
				t.Fatal(err)
			}
			got, want := sums(t, devices, peers, n), sums(t, host, kernels.NewHostPeers(host), n)
			for k := range got {
				for i := range got[k] {
					if math.Float32bits(got[k][i]) != math.Float32bits(want[k][i]) {
						t.Fatalf("vector %d, value %d: %v, want %v", k, i, got[k][i], want[k][i])
					}
				}
			}
			for _, d := range append(devices, host...) {
				if err := d.(*Device).Err(); err != nil {
					t.Error(err)
				}
				if err := d.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// sums returns the vectors after two rounds of reducing and gathering.
func sums(t *testing.T, devices []kernels.Device, peers kernels.Peers, n int) (all [][]float32) {
	t.Helper()
	var vectors []kernels.Buffer
	for k, d := range devices {
		v, err := d.Alloc(n)
		if err != nil {
			t.Fatal(err)
		}
		x := make([]float32, n)
		for i := range x {
			x[i] = 1 / float32(3+i%1000+7*k)
		}
		d.Upload(v, x)
		vectors, all = append(vectors, v), append(all, x)
	}
	for range 2 {
		peers.ReduceScatter(vectors)
		peers.AllGather(vectors)
	}
	for k, d := range devices {
		d.Download(all[k], vectors[k])
	}
	return all
}

// One lost GPU is an error on all of them: no replica goes on with a sum that lacks it.
func TestGroupKnowsALostMember(t *testing.T) {
	if noDevice != "" {
		t.Skip(noDevice)
	}
	if list, err := driver.Devices(); err != nil || len(list) < 2 {
		t.Skipf("%d devices, %v", len(list), err)
	}
	for name, call := range map[string]func(kernels.Peers, []kernels.Buffer){
		"sum":       func(p kernels.Peers, v []kernels.Buffer) { p.ReduceScatter(v); p.AllGather(v) },
		"broadcast": kernels.Peers.Broadcast,
	} {
		for lost := range 2 {
			devices, peers, err := OpenAll([]int{0, 1}, kernels.FP32)
			if err != nil {
				t.Fatal(err)
			}
			var vectors []kernels.Buffer
			for _, d := range devices {
				vectors = append(vectors, upload(t, d, make([]float32, 1000)))
			}
			devices[lost].(*Device).failed(fmt.Errorf("test: %w", driver.ErrStuck))
			call(peers, vectors)
			if err := devices[1-lost].(*Device).Err(); !driver.IsLost(err) {
				t.Errorf("%s: device %d is lost, the other has the error %v", name, lost, err)
			}
			for _, d := range devices {
				d.Close()
			}
		}
	}
}

// Every GPU has the bits that the host would have given it, whatever GPU 0's vector is, and what
// the others' were is gone in both forms.
func TestGroupBroadcastsAsTheHostDoes(t *testing.T) {
	if noDevice != "" {
		t.Skip(noDevice)
	}
	if list, err := driver.Devices(); err != nil || len(list) < 2 {
		t.Skipf("%d devices, %v", len(list), err)
	}
	for _, n := range []int{1, 64, 1000, 9070} {
		devices, peers, err := openAll([]int{0, 1}, kernels.BF16, 1024)
		if err != nil {
			t.Fatal(err)
		}
		var vectors []kernels.Buffer
		for k, d := range devices {
			v := upload(t, d, hard(n, uint32(5+k)))
			d.(*Device).read("test", v, n, halves)
			vectors = append(vectors, v)
		}
		for round := range 2 {
			want := hard(n, uint32(9+round))
			devices[0].Upload(vectors[0], want)
			peers.Broadcast(vectors)
			for k, d := range devices {
				sameBits(t, fmt.Sprintf("vector %d of %d values, broadcast %d", k, n, round), download(d, vectors[k]), want)
			}
			from := devices[1].(*Device)
			copied := upload(t, from, make([]float32, n))
			was := from.read("test", vectors[1], n, halves) // made anew from what came
			from.convert(from.write("test", copied, n, floats), floats, was, halves, n)
			for i, x := range download(from, copied) {
				if math.Abs(float64(want[i])) < 3e38 && !(math.Abs(float64(x-want[i])) <= math.Abs(float64(want[i]))/256+1e-37) {
					t.Fatalf("value %d of %d is %v in halves, %v was broadcast", i, n, x, want[i])
				}
			}
		}
		for _, d := range devices {
			if err := d.(*Device).Err(); err != nil {
				t.Error(err)
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}
