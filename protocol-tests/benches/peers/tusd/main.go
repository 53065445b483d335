// tusd's handler and file store, and nothing else: no hooks, no metrics, no log output.
package main

import (
	"flag"
	"golang.org/x/exp/slog"
	"io"
	"log"
	"net/http"

	"github.com/tus/tusd/v2/pkg/filestore"
	"github.com/tus/tusd/v2/pkg/handler"
	"github.com/tus/tusd/v2/pkg/memorylocker"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:1080", "where to listen")
	dir := flag.String("dir", "data", "where uploads are kept; must exist")
	flag.Parse()

	composer := handler.NewStoreComposer()
	filestore.New(*dir).UseIn(composer)
	memorylocker.New().UseIn(composer)
	tus, err := handler.NewHandler(handler.Config{
		BasePath:      "/files/",
		StoreComposer: composer,
		Logger:        slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelError})),
	})
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("/files/", http.StripPrefix("/files/", tus))
	log.Fatal(http.ListenAndServe(*listen, nil))
}
