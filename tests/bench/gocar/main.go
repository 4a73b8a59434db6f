// Measures Go's libraries on one file: open, index or verify a CAR, load its detached index, get the blocks whose CIDs a
// file lists (go-car), or compute a piece commitment (go-fil-commp-hashhash).
package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	commp "github.com/filecoin-project/go-fil-commp-hashhash"
	"github.com/ipfs/go-cid"
	carv2 "github.com/ipld/go-car/v2"
	"github.com/ipld/go-car/v2/blockstore"
	"github.com/ipld/go-car/v2/index"
)

func main() {
	what, path := os.Args[1], os.Args[2]
	if err := measure(what, path); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("%.6f\n", time.Since(begun).Seconds())
}

// When what is measured began: later than the program where there is something to prepare.
var begun = time.Now()

func measure(what, path string) error {
	switch what {
	case "open":
		store, err := blockstore.OpenReadOnly(path)
		if err != nil {
			return err
		}
		return store.Close()
	case "load":
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		_, err = index.ReadFrom(file)
		return err
	case "index":
		return writeIndex(path, os.Args[3])
	case "verify":
		reader, err := carv2.OpenReader(path)
		if err != nil {
			return err
		}
		defer reader.Close()
		_, err = reader.Inspect(true)
		return err
	}
	if what == "commp" {
		return commit(path)
	}
	if what == "get" {
		return getBlocks(path, os.Args[3])
	}
	return fmt.Errorf("no such measurement: %s", what)
}

func commit(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	begun = time.Now()
	calculator := &commp.Calc{}
	if _, err := calculator.Write(data); err != nil {
		return err
	}
	_, _, err = calculator.Digest()
	return err
}

func getBlocks(path, list string) error {
	text, err := os.ReadFile(list)
	if err != nil {
		return err
	}
	var wanted []cid.Cid
	for _, line := range strings.Fields(string(text)) {
		one, err := cid.Decode(line)
		if err != nil {
			return err
		}
		wanted = append(wanted, one)
	}
	store, err := blockstore.OpenReadOnly(path)
	if err != nil {
		return err
	}
	defer store.Close()
	begun = time.Now()
	for _, one := range wanted {
		if _, err := store.Get(context.Background(), one); err != nil {
			return err
		}
	}
	return nil
}

func writeIndex(path, out string) error {
	found, err := carv2.GenerateIndexFromFile(path)
	if err != nil {
		return err
	}
	file, err := os.Create(out)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = index.WriteTo(found, file)
	return err
}
