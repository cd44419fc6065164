.PHONY: test race fuzz bench asm lint e2e

test:
	go test ./...

race:
	go test -race ./...

# Every fuzz target for a short while; TIME=5m searches longer.
TIME ?= 10s
fuzz:
	@for p in $$(go list ./...); do \
		for f in $$(go test -list '^Fuzz' $$p | grep ^Fuzz); do \
			echo "$$p $$f"; go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(TIME) $$p || exit 1; \
		done; \
	done

bench:
	go test -run '^$$' -bench . ./...

# The committed assembly is what its generator writes.
asm:
	go generate ./kernels
	git diff --exit-code kernels

lint:
	test -z "$$(gofmt -l .)"
	go vet ./...
	go vet -tags noasm ./...
	GOARCH=arm64 go vet ./kernels/... ./optim/... ./trainer/... ./bench
	go run honnef.co/go/tools/cmd/staticcheck@v0.7.0 ./...

# Real processes over real libp2p; minutes.
e2e:
	go test -timeout 20m -count 1 -run E2E ./cmd/loco -e2e
