package org.genrecall.opensearch;

import io.grpc.InsecureServerCredentials;
import io.grpc.Metadata;
import io.grpc.Server;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerCredentials;
import io.grpc.ServerInterceptor;
import io.grpc.ServerInterceptors;
import io.grpc.Status;
import io.grpc.health.v1.HealthCheckResponse.ServingStatus;
import io.grpc.okhttp.OkHttpServerBuilder;
import io.grpc.protobuf.services.HealthStatusManager;
import io.grpc.stub.StreamObserver;

import org.genrecall.v1.EncodeRequest;
import org.genrecall.v1.EncodeResponse;
import org.genrecall.v1.GenerateRequest;
import org.genrecall.v1.GenerateResponse;
import org.genrecall.v1.Generated;
import org.genrecall.v1.GenerativeRecallGrpc;
import org.genrecall.v1.Item;

import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * A real gRPC server on loopback whose answers a test can foresee. SIDs are {@code 0/0/0, 0/1/0, ... 0/9/0, 1/0/0, ...} with
 * probabilities 0.5, 0.25, 0.1667, ...: the one of rank i has 0.5 / (i + 1), and i % 4 + 1 items. A text that starts with "unsized"
 * is answered as by an older server, without numbers of items, one with "slow" is not answered
 * before the test ends, one with "refuse" is an invalid argument, one with "busy" meets a full queue, one with "broken" gets a
 * reply of another codebook, one with "none" no SID; of a call with several texts the worst counts. Titles are to {@code Encode} what texts are to {@code Generate}: see
 * {@link #term}; of a call with one that starts with "later" the first two attempts meet a full queue, to be asked again in
 * 20 ms, with one of "tomorrow" all attempts do, to be asked again in a minute; one with "short" gets a code too few.
 */
public final class TestInferenceServer implements AutoCloseable {

    private final Set<String> held;
    private final Server server;
    private final int port;
    private final List<GenerateRequest> requests = new CopyOnWriteArrayList<>();
    private final List<EncodeRequest> encodeRequests = new CopyOnWriteArrayList<>();
    private final AtomicInteger encoding = new AtomicInteger();
    private final AtomicInteger mostEncoding = new AtomicInteger();
    private final AtomicInteger refusedForLater = new AtomicInteger();
    private final CountDownLatch closing = new CountDownLatch(1);
    private final CountDownLatch released = new CountDownLatch(1);
    private final HealthStatusManager health = new HealthStatusManager();
    private final List<Metadata> headers = new CopyOnWriteArrayList<>();
    private volatile boolean mute = false;
    private volatile String model = "test";

    public TestInferenceServer(String... held) throws IOException {
        this(0, InsecureServerCredentials.create(), held);
    }

    public TestInferenceServer(int port, ServerCredentials credentials, String... held) throws IOException {
        this.held = Set.of(held);
        this.server = OkHttpServerBuilder.forPort(new InetSocketAddress(InetAddress.getLoopbackAddress(), port), credentials)
            .addService(ServerInterceptors.intercept(new Service(), new ServerInterceptor() {
                @Override
                public <Q, R> ServerCall.Listener<Q> interceptCall(ServerCall<Q, R> call, Metadata metadata, ServerCallHandler<Q, R> next) {
                    if (call.getMethodDescriptor().equals(GenerativeRecallGrpc.getGenerateMethod())) {
                        headers.add(metadata);
                    }
                    return next.startCall(call, metadata);
                }
            }))
            .addService(health.getHealthService())
            .build()
            .start();
        this.port = server.getPort();
        serving(true);
    }

    /** What a rank's SID scores. */
    public static float probability(int rank) {
        return (float) Math.exp((float) Math.log(0.5 / (rank + 1)));
    }

    /** How many items the codebook gave a rank's SID. */
    public static int items(int rank) {
        return rank % 4 + 1;
    }

    /** The SID of an item: how long its title and its brand are, and how many names its category has. */
    public static String term(String codebook, String title, String brand, int names) {
        return codebook + "/" + title.length() + "/" + brand.length() + "/" + names;
    }

    public int port() {
        return port;
    }

    public String endpoint() {
        return "127.0.0.1:" + port();
    }

    /** What it was asked, in order. */
    public List<GenerateRequest> requests() {
        return requests;
    }

    /** Those of each {@code Generate}, in order. */
    public List<Metadata> headers() {
        return headers;
    }

    /** What its health says, as that of a server that is about to stop. */
    public void serving(boolean serving) {
        health.setStatus(GenerativeRecallGrpc.SERVICE_NAME, serving ? ServingStatus.SERVING : ServingStatus.NOT_SERVING);
    }

    /** From now on it keeps its connections and answers nothing, as a host that vanished. */
    public void mute(boolean mute) {
        this.mute = mute;
    }

    /** The name of the model that answers from now on. */
    public void model(String name) {
        this.model = name;
    }

    /** What it was asked to encode, in order. */
    public List<EncodeRequest> encodeRequests() {
        return encodeRequests;
    }

    /** The most calls of {@code Encode} that were under way at once. */
    public int mostEncoding() {
        return mostEncoding.get();
    }

    @Override
    public void close() {
        closing.countDown();
        server.shutdownNow();
        try {
            server.awaitTermination(10, TimeUnit.SECONDS);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    /** Answers texts that start with "held back", then and from now on. */
    public void release() {
        released.countDown();
    }

    private final class Service extends GenerativeRecallGrpc.GenerativeRecallImplBase {
        @Override
        public void generate(GenerateRequest request, StreamObserver<GenerateResponse> observer) {
            requests.add(request);
            if (mute) {
                return;
            }
            if (held.contains(request.getCodebook()) == false) {
                fail(observer, Status.FAILED_PRECONDITION, "codebook " + request.getCodebook() + " is not held, only " + held);
            } else if (asked(request, "refuse")) {
                fail(observer, Status.INVALID_ARGUMENT, "queries[0].text: not today");
            } else if (asked(request, "busy")) {
                fail(observer, Status.RESOURCE_EXHAUSTED, "the queue is full");
            } else {
                if (asked(request, "slow")) {
                    await(closing);
                } else if (asked(request, "held back")) {
                    await(released);
                }
                observer.onNext(answer(request));
                observer.onCompleted();
            }
        }

        @Override
        public void encode(EncodeRequest request, StreamObserver<EncodeResponse> observer) {
            mostEncoding.accumulateAndGet(encoding.incrementAndGet(), Math::max);
            encodeRequests.add(request);
            if (titled(request, "slow")) {
                await(closing);
            }
            EncodeResponse response = answer(request);
            encoding.decrementAndGet(); // before anybody hears of it and sends the next
            if (held.contains(request.getCodebook()) == false) {
                fail(observer, Status.FAILED_PRECONDITION, "codebook " + request.getCodebook() + " is not held, only " + held);
            } else if (titled(request, "refuse")) {
                fail(observer, Status.INVALID_ARGUMENT, "items[0].title: not today");
            } else if (titled(request, "busy")) {
                fail(observer, Status.RESOURCE_EXHAUSTED, "the queue is full");
            } else if (titled(request, "later") && refusedForLater.incrementAndGet() <= 2) {
                refuseFor("20", observer);
            } else if (titled(request, "tomorrow")) {
                refuseFor("60000", observer);
            } else {
                observer.onNext(response);
                observer.onCompleted();
            }
        }

        private void refuseFor(String millis, StreamObserver<?> observer) {
            Metadata trailers = new Metadata();
            trailers.put(Metadata.Key.of("grpc-retry-pushback-ms", Metadata.ASCII_STRING_MARSHALLER), millis);
            observer.onError(Status.RESOURCE_EXHAUSTED.withDescription("the queue is full").asRuntimeException(trailers));
        }

        private boolean asked(GenerateRequest request, String start) {
            return request.getQueriesList().stream().anyMatch(query -> query.getText().startsWith(start));
        }

        private boolean titled(EncodeRequest request, String start) {
            return request.getItemsList().stream().anyMatch(item -> item.getTitle().startsWith(start));
        }

        private EncodeResponse answer(EncodeRequest request) {
            String codebook = titled(request, "broken") ? "v0" : request.getCodebook();
            EncodeResponse.Builder response = EncodeResponse.newBuilder().setCodebook(codebook);
            for (Item item : request.getItemsList()) {
                response.addCodes(item.getTitle().length()).addCodes(item.getBrand().length());
                if (item.getTitle().startsWith("short") == false) {
                    response.addCodes(item.getCategoryCount());
                }
            }
            return response.build();
        }

        private void await(CountDownLatch latch) {
            try {
                latch.await(30, TimeUnit.SECONDS);
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
            }
        }

        private void fail(StreamObserver<?> observer, Status status, String description) {
            observer.onError(status.withDescription(description).asRuntimeException());
        }

        private GenerateResponse answer(GenerateRequest request) {
            String codebook = asked(request, "broken") ? "v0" : request.getCodebook();
            GenerateResponse.Builder response = GenerateResponse.newBuilder().setCodebook(codebook).setModel(model);
            request.getQueriesList().forEach(query -> response.addResults(generated(query.getText(), request.getK())));
            return response.build();
        }

        private Generated generated(String text, int k) {
            Generated.Builder generated = Generated.newBuilder();
            for (int rank = 0; rank < k && text.startsWith("none") == false; rank++) {
                generated.addCodes(rank / 10).addCodes(rank % 10).addCodes(0).addScores((float) Math.log(0.5 / (rank + 1)));
                if (text.startsWith("unsized") == false) {
                    generated.addItems(items(rank));
                }
            }
            return generated.build();
        }
    }
}
