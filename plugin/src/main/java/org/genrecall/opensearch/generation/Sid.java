package org.genrecall.opensearch.generation;

import java.util.Locale;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * One semantic id and its term in the index, {@code v7/12/40/733}: the codebook, then three zero-based codes without
 * leading zeros. The grammar is that of {@code genrecall/sid.py}.
 */
public record Sid(String codebook, int c1, int c2, int c3) {

    private static final Pattern CODEBOOK = Pattern.compile("[A-Za-z0-9][A-Za-z0-9._-]{0,63}");
    private static final String CODE = "/(0|[1-9]\\d{0,9})";
    private static final Pattern TERM = Pattern.compile("(" + CODEBOOK + ")" + CODE + CODE + CODE);

    /** @throws IllegalArgumentException where {@code term} is no SID term */
    public static Sid parse(String term) {
        Matcher matcher = TERM.matcher(term);
        if (matcher.matches()) {
            try {
                return new Sid(matcher.group(1), code(matcher, 2), code(matcher, 3), code(matcher, 4));
            } catch (NumberFormatException e) {
                // A code beyond 2^31: no codebook is that large.
            }
        }
        throw new IllegalArgumentException(
            String.format(Locale.ROOT, "[%s] is not a SID term: write CODEBOOK/c1/c2/c3, such as v7/12/40/733", term)
        );
    }

    public static boolean isCodebook(String name) {
        return CODEBOOK.matcher(name).matches();
    }

    public String term() {
        return term(codebook, c1, c2, c3);
    }

    public static String term(String codebook, int c1, int c2, int c3) {
        return codebook + '/' + c1 + '/' + c2 + '/' + c3;
    }

    private static int code(Matcher matcher, int group) {
        return Integer.parseInt(matcher.group(group));
    }
}
