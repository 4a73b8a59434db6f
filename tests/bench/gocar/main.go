// Measures go-car's library on one CAR: open, index or verify.
package main

import (
	"fmt"
	"os"
	"time"

	carv2 "github.com/ipld/go-car/v2"
	"github.com/ipld/go-car/v2/blockstore"
	"github.com/ipld/go-car/v2/index"
)

func main() {
	what, path := os.Args[1], os.Args[2]
	begun := time.Now()
	if err := measure(what, path); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("%.6f\n", time.Since(begun).Seconds())
}

func measure(what, path string) error {
	switch what {
	case "open":
		store, err := blockstore.OpenReadOnly(path)
		if err != nil {
			return err
		}
		return store.Close()
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
	return fmt.Errorf("no such measurement: %s", what)
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
