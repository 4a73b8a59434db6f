module carfs/tests/bench/gocar

go 1.23

require (
	github.com/filecoin-project/go-fil-commp-hashhash v0.2.0
	github.com/ipld/go-car/v2 v2.17.0
)
