// GET /mood as a Go service would have it: one Redis GET, JSON, metrics, a JSON log line. For comparison only.
package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/redis/go-redis/v9"
)

type mood struct {
	Date    string `json:"date"`
	Mood    string `json:"mood"`
	Emoji   string `json:"emoji"`
	Message string `json:"message"`
}

var (
	requests = promauto.NewCounterVec(prometheus.CounterOpts{Name: "http_requests_total", Help: "Requests."},
		[]string{"method", "path", "status"})
	latency = promauto.NewHistogramVec(prometheus.HistogramOpts{Name: "http_request_latency_seconds", Help: "Latency."},
		[]string{"method", "path"})
)

type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

func observed(path string, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		recorded := &recorder{w, http.StatusOK}
		next(recorded, r)
		took := time.Since(began)
		requests.WithLabelValues(r.Method, path, strconv.Itoa(recorded.status)).Inc()
		latency.WithLabelValues(r.Method, path).Observe(took.Seconds())
		slog.Info("request", "method", r.Method, "path", path, "status", recorded.status, "duration_ms", took.Seconds()*1000)
	}
}

func today(store *redis.Client) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		date := time.Now().UTC().Format(time.DateOnly)
		key := "mood:" + date
		var answer mood
		stored, err := store.Get(r.Context(), key).Bytes()
		if err != nil || json.Unmarshal(stored, &answer) != nil {
			if err != nil && err != redis.Nil {
				http.Error(w, "the store is away", http.StatusServiceUnavailable)
				return
			}
			answer = mood{date, "Calm", "😌", "Nothing is so urgent that it cannot wait for a breath."}
			text, _ := json.Marshal(answer)
			if err := store.Set(r.Context(), key, text, 24*time.Hour).Err(); err != nil {
				http.Error(w, "the store is away", http.StatusServiceUnavailable)
				return
			}
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(answer)
	}
}

func setting(name, fallback string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return fallback
}

func main() {
	slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stdout, nil)))
	options, err := redis.ParseURL(setting("REDIS_URL", "redis://127.0.0.1:6379"))
	if err != nil {
		slog.Error(err.Error())
		os.Exit(2)
	}
	routes := http.NewServeMux()
	routes.HandleFunc("/mood", observed("/mood", today(redis.NewClient(options))))
	routes.Handle("/metrics", promhttp.Handler())
	server := http.Server{Addr: setting("LISTEN_ADDR", ":5000"), Handler: routes}
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer cancel()
	go func() {
		<-stop.Done()
		server.Shutdown(context.Background())
	}()
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		slog.Error(err.Error())
		os.Exit(1)
	}
}
