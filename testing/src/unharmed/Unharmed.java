// Compiled for Java 8: javac --release 8 -g:none Unharmed.java
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;

/**
 * Threads, exceptions, collections, a child, memory that is kept, when it is told to. Says "right" when all of that went
 * well, and ends at the end of its input.
 */
public class Unharmed {
    static final List<ByteBuffer> kept = new ArrayList<ByteBuffer>();

    static int depth(int n) {
        if (n == 0) throw new IllegalStateException("deep");
        return depth(n - 1) + 1;
    }

    static boolean all() throws Exception {
        final int[] caught = new int[1];
        List<Thread> threads = new ArrayList<Thread>();
        for (int i = 0; i < 4; i++) {
            Thread thread = new Thread(new Runnable() {
                public void run() {
                    for (int n = 0; n < 200; n++) {
                        try {
                            depth(50);
                        } catch (IllegalStateException e) {
                            synchronized (caught) { caught[0]++; }
                        }
                        try {
                            Object nothing = n < 0 ? caught : null;
                            nothing.hashCode();
                        } catch (NullPointerException e) {
                            synchronized (caught) { caught[0]++; }
                        }
                        byte[] garbage = new byte[10000];
                        garbage[n] = 1;
                    }
                }
            });
            threads.add(thread);
            thread.start();
        }
        for (int i = 0; i < 40; i++) kept.add(ByteBuffer.allocateDirect(123456));
        for (int i = 0; i < 5; i++) System.gc();
        for (Thread thread : threads) thread.join();
        int status = new ProcessBuilder("/bin/sh", "-c", "exit 3").start().waitFor();
        return caught[0] == 1600 && status == 3;
    }

    public static void main(String[] arguments) throws Exception {
        System.out.println("ready");
        System.in.read();
        System.out.println(all() ? "right" : "wrong");
        while (System.in.read() >= 0);
    }
}
