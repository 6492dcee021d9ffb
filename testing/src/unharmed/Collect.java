// Compiled for Java 8: javac --release 8 -g:none Collect.java
/** A full collection for each line that it reads, and a line when it is done. */
public class Collect {
    public static void main(String[] arguments) throws Exception {
        System.out.println("ready");
        for (int read; (read = System.in.read()) >= 0; ) {
            if (read != '\n') continue;
            System.gc();
            System.out.println("done");
        }
    }
}
