package org.genrecall.opensearch.generation;

import io.grpc.Deadline;

import org.opensearch.common.unit.TimeValue;

import java.util.concurrent.TimeUnit;

/**
 * What every call to the server has beside its request. Calls made one after the other for the same purpose may share one,
 * and so its deadline.
 */
public record Ask(Caller caller, String codebook, TimeValue timeout, Deadline deadline, Origin origin) {

    /** The time begins to run now. */
    public Ask(Caller caller, String codebook, TimeValue timeout, Origin origin) {
        this(caller, codebook, timeout, Deadline.after(timeout.nanos(), TimeUnit.NANOSECONDS), origin);
    }

    Ask from(Origin other) {
        return new Ask(caller, codebook, timeout, deadline, other);
    }

    /** @throws IllegalArgumentException where a reply is of another codebook than this one */
    public void check(String answered) {
        if (answered.equals(codebook) == false) {
            throw new IllegalArgumentException("asked for codebook [" + codebook + "], it answered with [" + answered + "]");
        }
    }
}
