// Command layer does to one file what ko does: tar it, gzip it at BestSpeed, and compute the
// digests of both forms. It stands beside gondola's layer writer in the comparison.
package main

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
)

func main() {
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(source, target string) error {
	content, err := os.ReadFile(source)
	if err != nil {
		return err
	}
	out, err := os.Create(target)
	if err != nil {
		return err
	}
	defer out.Close()
	buffered := bufio.NewWriterSize(out, 1<<16)
	digest, diffID := sha256.New(), sha256.New()
	zip, err := gzip.NewWriterLevel(io.MultiWriter(buffered, digest), gzip.BestSpeed)
	if err != nil {
		return err
	}
	archive := tar.NewWriter(io.MultiWriter(zip, diffID))
	header := &tar.Header{Name: "usr/local/bin/app", Mode: 0o755, Size: int64(len(content)), Typeflag: tar.TypeReg}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	if _, err := archive.Write(content); err != nil {
		return err
	}
	if err := archive.Close(); err != nil {
		return err
	}
	if err := zip.Close(); err != nil {
		return err
	}
	if err := buffered.Flush(); err != nil {
		return err
	}
	fmt.Printf("sha256:%x sha256:%x\n", digest.Sum(nil), diffID.Sum(nil))
	return nil
}
