package org.genrecall.opensearch;

import com.carrotsearch.randomizedtesting.ThreadFilter;

/** gRPC's shared threads, which it stops itself a while after the last channel is closed. */
public final class GrpcThreads implements ThreadFilter {
    @Override
    public boolean reject(Thread thread) {
        return thread.getName().startsWith("grpc-") || thread.getName().startsWith("OkHttpClientTransport");
    }
}
